"""The report as one HTML page that needs no network."""

from html import escape

from speechbrain_scl.files import written_aside

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line);
         text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-width: 2px; }
.interval { opacity: .7; font-size: .85em; }
figure { margin: 1rem 0; background: white; border-radius: .5rem;
         display: inline-block; max-width: 100%; }
figure svg { max-width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { margin: 0; } section { break-inside: avoid; } }
"""


def write_page(path, metrics, det, histograms, facts):
    """Writes figures and pictures of a verification run as an HTML page.

    Arguments
    ---------
    path : str
        The file.
    metrics : dict
        List name -> what ``report.measure`` returned.
    det : str
        The DET plot of all lists, an <svg> element.
    histograms : dict
        List name -> its score histogram, an <svg> element.
    facts : dict
        What to know about the run: name -> text.
    """
    sections = [_overview(metrics), f"<figure>{det}</figure>"]
    for name, found in metrics.items():
        sections.append(
            f"<section><h2>{escape(name)}</h2>{_figures(found)}"
            f"<figure>{histograms[name]}</figure>"
            f"{_conditions(found)}</section>"
        )
    listed = "".join(
        f"<dt>{escape(str(key))}</dt><dd>{escape(str(value or 'none'))}</dd>"
        for key, value in facts.items()
    )
    with written_aside(path) as file:
        file.write(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>Speaker verification</title><style>{_STYLE}</style>"
            "</head><body><h1>Speaker verification</h1>"
            f"<section><h2>Run</h2><dl>{listed}</dl></section>"
            f"{''.join(sections)}</body></html>\n"
        )


def _overview(metrics):
    p_target = next(iter(metrics.values()))["p_target"]
    rows = [
        [
            escape(name),
            _rate(found["eer"]) + _interval(found["eer_ci"], _rate),
            _cost(found["min_dcf"]) + _interval(found["min_dcf_ci"], _cost),
            f"{found['n_trials']:,}",
            f"{found['n_speakers']:,}",
        ]
        for name, found in metrics.items()
    ]
    header = ["trial list", "EER %", "minDCF", "trials", "speakers"]
    return (
        f"<section><h2>Results</h2>{_table(header, rows)}"
        f"<p>minDCF at p<sub>target</sub> = {p_target}, unit costs; in "
        "brackets 95 % intervals over resampled speakers.</p>"
        f"{_remarks(metrics)}</section>"
    )


def _remarks(metrics):
    items = "".join(
        f"<li>{escape(name)}: {escape(remark)}</li>"
        for name, found in metrics.items()
        for remark in found["remarks"]
    )
    return f"<ul>{items}</ul>" if items else ""


def _figures(found):
    rows = [
        ["target trials", f"{found['n_targets']:,}"],
        ["impostor trials", f"{found['n_trials'] - found['n_targets']:,}"],
        ["EER on the convex hull, %", _rate(found["eer_rocch"])],
        ["threshold at the EER", _cost(found["eer_threshold"])],
        ["threshold at minDCF", _cost(found["min_dcf_threshold"])],
    ]
    if "cllr" in found:
        rows += [
            ["actual DCF", _cost(found["act_dcf"])],
            ["C<sub>llr</sub> (bits)", _cost(found["cllr"])],
            ["minimum C<sub>llr</sub>", _cost(found["min_cllr"])],
        ]
    return _table(None, rows)


def _conditions(found):
    rows = [
        [
            escape(name),
            _rate(part["eer"]),
            _cost(part["min_dcf"]),
            f"{part['n_targets']:,}",
            f"{part['n_trials'] - part['n_targets']:,}",
        ]
        for name, part in found.get("conditions", {}).items()
    ]
    header = ["condition", "EER %", "minDCF", "targets", "impostors"]
    return _table(header, rows) if rows else ""


def _table(header, rows):
    head = ""
    if header:
        cells = "".join(f"<th>{cell}</th>" for cell in header)
        head = f"<thead><tr>{cells}</tr></thead>"
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _rate(value):
    return "-" if value is None else f"{100 * value:.2f}"


def _cost(value):
    return "-" if value is None else f"{value:.4f}"


def _interval(values, spell):
    if not values:
        return ""
    low, high = map(spell, values)
    return f' <span class="interval">({low} to {high})</span>'
