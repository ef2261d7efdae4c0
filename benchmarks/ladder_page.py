"""A ladder's runs as one HTML page, which leads to their reports and scores."""

import os
from pathlib import Path
from statistics import mean, stdev

from speechbrain_scl.evaluation import plots, report
from speechbrain_scl.evaluation.report import describe_call

TEMPLATE = Path(__file__).with_name("comparison.html")


def write_page(ladder, figures, differences, ratios):
    """Writes comparison.html; what it takes is that of ``ladder_report``."""

    def files(variant, seed):
        """Column -> part -> the file behind a figure, relative to the page;
        under the empty name the reports. Only those that are there."""
        found = {c: {} for c in ("validation", "", *ladder.columns())}
        for part in ladder.parts:
            folder = ladder.folder(variant, seed, part)
            found["validation"][part or "log"] = folder / "train_log.txt"
            page = folder / ladder.tests / "report.html"
            found[""][part or "report"] = page
        for column, places in ladder.columns().items():
            for part, path in places:
                file = ladder.score_file(variant, seed, part, path)
                found[column][part or "scores"] = file
        return {
            column: {
                name: os.path.relpath(path, ladder.results)
                for name, path in files.items()
                if path.is_file()
            }
            for column, files in found.items()
        }

    write_comparison(
        ladder.results / "comparison.html",
        figures,
        differences,
        ratios,
        ladder.of_each(lambda *run: list(map(mean, zip(*ladder.curves(*run))))),
        ladder.of_each(files),
        _facts(ladder),
    )


def _facts(ladder):
    """What to know about all runs."""
    call = describe_call()
    facts = {"date": call["date"], "command": call["command"]}
    metrics = ladder.metrics(ladder.variants[0], ladder.seeds[0])
    for column, places in ladder.columns().items():
        n_trials, n_speakers = (
            sum(metrics[part][column][key] for part, _ in places)
            for key in ("n_trials", "n_speakers")
        )
        facts[column] = f"{n_trials:,} trials of {n_speakers:,} speakers"
    if len(ladder.parts) > 1:
        facts["figures"] = "means over " + ", ".join(ladder.parts)
    facts["versions"] = ", ".join(map(" ".join, call["versions"].items()))
    return facts


def write_comparison(
    path,
    figures,  # variant -> seed -> list -> (EER in [0, 1], minDCF or None)
    differences,  # variant -> list -> (points of EER to the first, ends), and
    # under "overall" the ratio over all lists, and its ends
    ratios,  # variant -> seed -> that ratio of one seed alone
    curves,  # variant -> seed -> validation EER of each epoch
    files,  # variant -> seed -> list ("": the reports) -> name -> path
    facts,  # name -> text
):
    """Writes what objectives and seeds come to; needs no network. Variants are
    compared with the first one; paths are relative to the page's."""
    overall = {name: cells["overall"] for name, cells in differences.items()}
    pictures = {}
    if overall:
        caption = f"EER as a ratio to {next(iter(figures))}, 95 % intervals"
        shown = "Ratios of the error rates"
        pictures[caption] = plots.svg(_ratios(overall), shown)
    pictures["Validation EER in %, a line per seed"] = plots.svg(
        _curves(curves), "Validation error over the epochs"
    )
    means = {
        name: {
            column: _mean([found[column] for found in seeds.values()])
            for column in next(iter(seeds.values()))
        }
        for name, seeds in figures.items()
    }
    report.write_page(
        path,
        str(TEMPLATE),
        figures=figures,
        means=means,
        differences=differences,
        ratios=ratios,
        pictures=pictures,
        files=files,
        facts=facts,
    )


def _mean(values):
    """Mean EER and its standard deviation over seeds in %, mean minDCF."""
    rates, costs = zip(*values)
    rates = [100 * rate for rate in rates]
    return {
        "eer": mean(rates),
        "deviation": stdev(rates) if len(rates) > 1 else None,
        "min_dcf": None if None in costs else mean(costs),
    }


def _ratios(overall):
    (axis,) = plots.axes(5.5, 1.2 + 0.4 * len(overall))
    for i, (value, low, high) in enumerate(overall.values()):
        axis.plot([low, high], [i, i], color=f"C{i + 1}", lw=2)
        axis.plot(value, i, "o", color=f"C{i + 1}")
    axis.axvline(1, color="black", lw=1, ls="--")
    axis.set_yticks(range(len(overall)), map(plots.plain, overall))
    axis.set_ylim(len(overall) - 0.5, -0.5)
    axis.set_xlabel("less error  ←  ratio  →  more error")
    axis.grid(alpha=0.3, axis="x")
    return axis.figure


def _curves(curves):
    (axis,) = plots.axes(5.5, 3.6)
    for i, (name, seeds) in enumerate(curves.items()):
        label = plots.plain(name)
        for rates in seeds.values():
            percent = [100 * rate for rate in rates]
            epochs = range(1, len(rates) + 1)
            axis.plot(epochs, percent, color=f"C{i}", lw=1.2, label=label)
            label = None
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return axis.figure
