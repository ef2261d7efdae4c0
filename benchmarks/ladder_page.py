"""A ladder's runs as one HTML page, which leads to their reports and scores."""

import os
import statistics

from speechbrain_scl.evaluation.pages.comparison import write_comparison
from speechbrain_scl.evaluation.pages.training_log import read_training_log
from speechbrain_scl.evaluation.provenance import describe_call

OVERALL = "overall"


def write_page(ladder, figures, differences, ratios, tested):
    """Writes comparison.html.

    Arguments
    ---------
    ladder : ladder_report.Ladder
        The runs.
    figures : dict
        Variant -> for each seed, column -> (EER, minDCF).
    differences : dict
        Variant -> column, or ``overall`` -> (difference, low, high).
    ratios : dict
        Variant -> seed -> the overall ratio of that seed alone.
    tested : bool
        Whether there are more figures than those of the validation.
    """
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
