"""Several trainings beside each other as one HTML page."""

import statistics

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from speechbrain_scl.evaluation.pages import wording
from speechbrain_scl.evaluation.pages.rendering import picture, write_page
from speechbrain_scl.evaluation.plots import plain


def write_comparison(
    path,
    figures,
    differences=None,
    overall=None,
    ratios=None,
    curves=None,
    reports=None,
    sources=None,
    facts=None,
):
    """Writes what objectives and seeds come to; needs no network.

    Arguments
    ---------
    path : str
        The file.
    figures : dict
        Variant -> seed -> list -> (EER in [0, 1], minDCF or None). The first
        variant is what the others are compared with.
    differences : dict or None
        Variant -> list -> (EER difference to the first variant in points, and
        the ends of its 95 % interval).
    overall : dict or None
        Variant -> (ratio of its EER to the first variant's over all lists,
        and the ends of its 95 % interval).
    ratios : dict or None
        Variant -> seed -> that ratio of one seed alone.
    curves : dict or None
        Variant -> seed -> validation EER of each epoch.
    reports : dict or None
        Variant -> seed -> name -> the run's own report, relative to the page;
        several names where a run has several parts.
    sources : dict or None
        Variant -> seed -> list -> name -> the file that the figure comes
        from, relative to the page.
    facts : dict or None
        What to know about the runs: name -> text.

    Example
    -------
    >>> path = str(getfixture("tmp_path") / "comparison.html")
    >>> write_comparison(
    ...     path,
    ...     {
    ...         "aam": {1: {"list": (0.10, 0.8)}, 2: {"list": (0.12, 0.9)}},
    ...         "full": {1: {"list": (0.09, 0.7)}, 2: {"list": (0.10, 0.8)}},
    ...     },
    ...     overall={"full": (0.86, 0.8, 0.95)},
    ... )
    >>> "14.0 % less EER" in open(path, encoding="utf-8").read()
    True
    """
    reference = next(iter(figures))
    lists = list(next(iter(figures[reference].values())))
    seeds = list(figures[reference])
    sentences = [
        wording.difference(name, reference, ratio)
        for name, ratio in (overall or {}).items()
    ]
    if len(sentences) > 1:
        sentences.insert(0, wording.verdict(reference, overall))
    pictures = {}
    if overall:
        pictures[f"EER as a ratio to {reference}, 95 % intervals"] = picture(
            _ratios(overall), "Ratios of the error rates"
        )
    if curves:
        pictures["Validation EER in %, a line per seed"] = picture(
            _curves(curves), "Validation error over the epochs"
        )
    if len(seeds) > 1:
        pictures["EER in %: a dot per seed, a bar at their mean"] = picture(
            _seeds(figures, lists), "Error rates of all seeds"
        )
    write_page(
        path,
        "comparison.html",
        reference=reference,
        lists=lists,
        seeds=seeds,
        sentences=sentences,
        means={
            name: {
                column: _mean([found[column] for found in seeds.values()])
                for column in lists
            }
            for name, seeds in figures.items()
        },
        figures=figures,
        differences=differences or {},
        overall=overall or {},
        ratios=ratios or {},
        pictures=pictures,
        reports=reports or {},
        sources=sources or {},
        facts=facts or {},
    )


def _mean(values):
    """Mean EER and its standard deviation over seeds in %, mean minDCF."""
    rates, costs = zip(*values)
    rates = [100 * rate for rate in rates]
    return {
        "eer": statistics.mean(rates),
        "deviation": statistics.stdev(rates) if len(rates) > 1 else None,
        "min_dcf": None if None in costs else statistics.mean(costs),
    }


def _ratios(overall):
    figure = Figure(
        figsize=(5.5, 1.2 + 0.4 * len(overall)), layout="constrained"
    )
    axis = figure.subplots()
    for i, (value, low, high) in enumerate(overall.values()):
        axis.plot([low, high], [i, i], color=f"C{i + 1}", lw=2)
        axis.plot(value, i, "o", color=f"C{i + 1}")
    axis.axvline(1, color="black", lw=1, ls="--")
    axis.set_yticks(range(len(overall)), map(plain, overall))
    axis.set_ylim(len(overall) - 0.5, -0.5)
    axis.set_xlabel("less error  ←  ratio  →  more error")
    axis.grid(alpha=0.3, axis="x")
    return figure


def _seeds(figures, lists):
    """A panel per list, one below the other: names stay readable."""
    height = 0.8 + len(lists) * (0.45 + 0.25 * len(figures))
    figure = Figure(figsize=(5.5, height), layout="constrained")
    axes = figure.subplots(len(lists), 1, squeeze=False)[:, 0]
    for axis, column in zip(axes, lists):
        for i, seeds in enumerate(figures.values()):
            rates = [100 * found[column][0] for found in seeds.values()]
            axis.plot(rates, [i] * len(rates), "o", alpha=0.6, color=f"C{i}")
            axis.plot(np.mean(rates), i, "|", ms=16, color=f"C{i}")
        axis.set_yticks(range(len(figures)), map(plain, figures))
        axis.set_ylim(len(figures) - 0.5, -0.5)
        axis.set_title(plain(column), fontsize=9, loc="left")
        axis.grid(alpha=0.3, axis="x")
    return figure


def _curves(curves):
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for i, (name, seeds) in enumerate(curves.items()):
        for j, rates in enumerate(seeds.values()):
            axis.plot(
                range(1, len(rates) + 1),
                [100 * rate for rate in rates],
                color=f"C{i}",
                lw=1.2,
                label=plain(name) if j == 0 else None,
            )
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return figure
