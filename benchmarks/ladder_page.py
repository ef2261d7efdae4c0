"""A ladder's runs as one HTML page, which leads to their reports and scores."""

import os
import statistics
from pathlib import Path

import numpy as np

from speechbrain_scl.evaluation import plots, report
from speechbrain_scl.evaluation.provenance import (
    describe_call,
    read_training_log,
)

OVERALL = "overall"
TEMPLATE = Path(__file__).with_name("comparison.html")


def write_page(ladder, figures, differences, ratios, tested):
    """Writes comparison.html; what it takes is that of ``ladder_report``."""
    write_comparison(
        str(ladder.results / "comparison.html"),
        {
            name: dict(zip(ladder.seeds, found))
            for name, found in figures.items()
        },
        {
            name: {c: cell for c, cell in cells.items() if c != OVERALL}
            for name, cells in differences.items()
        },
        {name: cells[OVERALL] for name, cells in differences.items()},
        ratios,
        _of_each(ladder, _curve),
        _of_each(ladder, _reports),
        _of_each(ladder, _sources),
        _facts(ladder, tested),
    )


def _facts(ladder, tested):
    """What to know about all runs."""
    call = describe_call()
    facts = {"date": call["date"], "command": call["command"]}
    if tested:
        metrics = ladder.metrics(ladder.variants[0], ladder.seeds[0])
        for column, places in ladder.columns().items():
            n_trials, n_speakers = (
                sum(metrics[part][column][key] for part, _ in places)
                for key in ("n_trials", "n_speakers")
            )
            facts[column] = f"{n_trials:,} trials of {n_speakers:,} speakers"
    if len(ladder.parts) > 1:
        facts["figures"] = "means over " + ", ".join(ladder.parts)
    versions = call["versions"].items()
    return {**facts, "versions": ", ".join(map(" ".join, versions))}


def _of_each(ladder, find):
    """Variant -> seed -> what is found of the run."""
    return {
        name: {seed: find(ladder, name, seed) for seed in ladder.seeds}
        for name in ladder.variants
    }


def _curve(ladder, variant, seed):
    """Validation EER of each epoch, the mean over the parts."""
    logs = [
        read_training_log(ladder.folder(variant, seed, part) / "train_log.txt")
        for part in ladder.parts
    ]
    rates = [[epoch["EER"] for epoch in log.values()] for log in logs]
    return [statistics.mean(epoch) for epoch in zip(*rates)]


def _reports(ladder, variant, seed):
    """The reports of the parts."""
    found = {
        part or "report": ladder.folder(variant, seed, part)
        / ladder.verification
        / "report.html"
        for part in ladder.parts
    }
    return _linked(ladder, found)


def _sources(ladder, variant, seed):
    """The scores of each list, and the logs behind the validation."""
    found = {
        column: {
            part or "scores": ladder.score_file(variant, seed, part, path)
            for part, path in places
        }
        for column, places in ladder.columns().items()
    }
    found["validation"] = {
        part or "log": ladder.folder(variant, seed, part) / "train_log.txt"
        for part in ladder.parts
    }
    return {column: _linked(ladder, files) for column, files in found.items()}


def _linked(ladder, files):
    """The files that are there, relative to the page."""
    return {
        name: os.path.relpath(path, ladder.results)
        for name, path in files.items()
        if path.is_file()
    }


def write_comparison(
    path,
    figures,  # variant -> seed -> list -> (EER in [0, 1], minDCF or None)
    differences,  # variant -> list -> points of EER to the first, and its ends
    overall,  # variant -> EER ratio to the first over all lists, and its ends
    ratios,  # variant -> seed -> that ratio of one seed alone
    curves,  # variant -> seed -> validation EER of each epoch
    reports,  # variant -> seed -> name -> the run's report
    sources,  # variant -> seed -> list -> name -> the file of the figure
    facts,  # name -> text
):
    """Writes what objectives and seeds come to; needs no network. Variants are
    compared with the first one; paths are relative to the page's."""
    reference = next(iter(figures))
    lists = list(next(iter(figures[reference].values())))
    seeds = list(figures[reference])
    pictures = {}
    if overall:
        pictures[f"EER as a ratio to {reference}, 95 % intervals"] = plots.svg(
            _ratios(overall), "Ratios of the error rates"
        )
    pictures["Validation EER in %, a line per seed"] = plots.svg(
        _curves(curves), "Validation error over the epochs"
    )
    if len(seeds) > 1:
        pictures["EER in %: a dot per seed, a bar at their mean"] = plots.svg(
            _seeds(figures, lists), "Error rates of all seeds"
        )
    report.write_page(
        path,
        str(TEMPLATE),
        reference=reference,
        sentences=_sentences(reference, overall),
        lists=lists,
        seeds=seeds,
        means={
            name: {
                column: _mean([found[column] for found in seeds.values()])
                for column in lists
            }
            for name, seeds in figures.items()
        },
        figures=figures,
        differences=differences,
        overall=overall,
        ratios=ratios,
        pictures=pictures,
        reports=reports,
        sources=sources,
        facts=facts,
    )


def _sentences(reference, overall):
    """What differs overall, first in short where there are several."""
    said, fewer, more = [], [], []
    for name, (ratio, low, high) in overall.items():
        differs = not low <= 1 <= high
        if differs:
            (fewer if ratio < 1 else more).append(name)
        said.append(
            f"{name} has {100 * abs(1 - ratio):.1f} % "
            f"{'less' if ratio < 1 else 'more'} EER than {reference} (ratio "
            f"{ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}), "
            + ("more than" if differs else "which")
            + " the choice of test speakers "
            + ("explains." if differs else "could explain.")
        )
    if len(said) > 1:
        short = [
            f"{amount} errors than {reference} by more than the choice of "
            f"test speakers explains: {', '.join(names)}."
            for amount, names in (("Fewer", fewer), ("More", more))
            if names
        ] or [
            f"None differs from {reference} by more than the choice of test "
            "speakers explains."
        ]
        said.insert(0, " ".join(short))
    return said


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


def _seeds(figures, lists):
    """A panel per list, one below the other: names stay readable."""
    height = 0.8 + len(lists) * (0.45 + 0.25 * len(figures))
    axes = plots.axes(5.5, height, len(lists))
    for axis, column in zip(axes, lists):
        for i, seeds in enumerate(figures.values()):
            rates = [100 * found[column][0] for found in seeds.values()]
            axis.plot(rates, [i] * len(rates), "o", alpha=0.6, color=f"C{i}")
            axis.plot(np.mean(rates), i, "|", ms=16, color=f"C{i}")
        axis.set_yticks(range(len(figures)), map(plots.plain, figures))
        axis.set_ylim(len(figures) - 0.5, -0.5)
        axis.set_title(plots.plain(column), fontsize=9, loc="left")
        axis.grid(alpha=0.3, axis="x")
    return axis.figure


def _curves(curves):
    (axis,) = plots.axes(5.5, 3.6)
    for i, (name, seeds) in enumerate(curves.items()):
        for j, rates in enumerate(seeds.values()):
            axis.plot(
                range(1, len(rates) + 1),
                [100 * rate for rate in rates],
                color=f"C{i}",
                lw=1.2,
                label=plots.plain(name) if j == 0 else None,
            )
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return axis.figure
