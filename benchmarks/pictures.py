#!/usr/bin/env python3
"""Pictures of finished runs, one command each.

    python benchmarks/pictures.py scores OUT.png LIST RUN [RUN ...]
        target and impostor scores of one trial list, a panel per run
    python benchmarks/pictures.py budget OUT.png RUN [RUN ...]
        EER against the epochs of trainings of different length; an
        <objective>_<epochs> counts as that objective

A RUN is a training's output folder with verification/ in it, as
benchmarks/ladder.py leaves them: OUTPUT/<objective>/<seed>.
"""

import argparse
import json
import re
from pathlib import Path

import matplotlib
import numpy as np

from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.evaluation.metrics import Counts
from speechbrain_scl.evaluation.plots import histogram, thresholds
from speechbrain_scl.evaluation.results import rates

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def main():
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for draw, arguments in PICTURES.items():
        kind = kinds.add_parser(draw.__name__, help=draw.__doc__)
        kind.add_argument("output", type=Path)
        for name, options in arguments.items():
            kind.add_argument(name, **options)
        kind.set_defaults(draw=draw)
    args = vars(parser.parse_args())
    draw, output = args.pop("draw"), args.pop("output")
    del args["kind"]
    figure = draw(**args)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    print(output)


def scores(list, runs):
    """Target and impostor scores of one trial list, a panel per run."""
    figure, axes = plt.subplots(
        1,
        len(runs),
        figsize=(1 + 4 * len(runs), 3.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, run in zip(axes[0], runs):
        counts = Counts.of(*read_scores(run, list))
        histogram(counts, thresholds(rates(counts)), axis)
        axis.set_title(title(run), fontsize=10)
    figure.suptitle(list, fontsize=10)
    return figure


def budget(runs):
    """EER against the epochs of trainings of different length."""
    curves = {}
    for run in runs:
        path = run / "verification" / "metrics.json"
        if not path.is_file():
            raise UserError(f"{path}: not there; is {run} a tested run?")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        rates = {name: 100 * found["eer"] for name, found in trials.items()}
        rates["geometric mean"] = np.exp(np.mean(np.log(list(rates.values()))))
        # <objective>/<seed>, and below it the fold
        seed = run if run.name.isdigit() else run.parent
        objective = re.sub(r"_\d+$", "", seed.parent.name)
        epochs = len(read_log(run, "EER"))
        for name, rate in rates.items():
            curve = curves.setdefault(name, {}).setdefault(objective, {})
            curve.setdefault(epochs, []).append(rate)
    figure, axes = plt.subplots(
        1,
        len(curves),
        figsize=(3 * len(curves), 3.2),
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, lines) in zip(axes[0], curves.items()):
        for objective, points in lines.items():
            epochs = sorted(points)
            means = [np.mean(points[n]) for n in epochs]
            (line,) = axis.plot(epochs, means, "o-", label=objective)
            for n in epochs:  # a dot for each run
                runs = points[n]
                style = {"color": line.get_color(), "alpha": 0.4}
                axis.plot([n] * len(runs), runs, ".", **style)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epochs")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(0)
    axes[0][0].set_ylabel("EER (%)")
    axes[0][0].legend(fontsize=8)
    return figure


RUNS = {"type": Path, "nargs": "+", "metavar": "RUN"}
PICTURES = {scores: {"list": {}, "runs": RUNS}, budget: {"runs": RUNS}}


def title(run):
    """A run's objective and seed."""
    return f"{run.parent.name}, seed {run.name}"


def read_log(run, key):
    """One value per epoch from the training log."""
    path = run / "train_log.txt"
    if not path.is_file():
        raise UserError(f"{path}: not there; is {run} a training's output?")
    text = path.read_text(encoding="utf-8")
    return [float(x) for x in re.findall(rf" {key}: ([\d.e+-]+)", text)]


def read_scores(run, name):
    """Scores and labels of one trial list."""
    folder = run / "verification"
    path = folder / f"scores-{name}.txt"
    if not path.is_file():
        path = folder / "scores.txt"
    if not path.is_file():
        raise UserError(
            f"{folder}: no scores-{name}.txt; run "
            "speaker_verification_cosine.py first"
        )
    with open(path, encoding="utf-8") as file:
        rows = [line.split() for line in file]
    return (
        np.array([float(row[-1]) for row in rows]),
        np.array([row[0] == "1" for row in rows]),
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
