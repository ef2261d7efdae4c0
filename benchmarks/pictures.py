#!/usr/bin/env python3
"""Pictures of finished runs, one command each.

    python benchmarks/pictures.py scores OUT.png LIST RUN [RUN ...]
        target and impostor scores of one trial list, a panel per run
    python benchmarks/pictures.py budget OUT.png RUN [RUN ...]
        EER against the epochs of trainings of different length; an
        <objective>_<epochs> counts as that objective
    python benchmarks/pictures.py balance OUT.png RUN [RUN ...]
        EER against the contrast's share of the weights

A RUN is a training's output folder with verification/ in it, as
benchmarks/ladder.py leaves them: OUTPUT/<objective>/<seed>.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.metrics import Counts
from speechbrain_scl.evaluation.report import read_training_log
from speechbrain_scl.evaluation.results import rates


def main():
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name in ("scores", "budget", "balance"):
        kind = kinds.add_parser(name)
        kind.add_argument("output", type=Path)
        if name == "scores":
            kind.add_argument("list")
        kind.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    args = parser.parse_args()
    if args.kind == "scores":
        figure = scores(args.list, args.runs)
    else:
        figure = over(args.runs, args.kind)
    plots.save(figure, args.output)
    print(args.output)


def panels(n, width):
    """A figure of n panels in a row, and these."""
    figure = Figure(figsize=(1 + width * n, 3.5), layout="constrained")
    return figure, figure.subplots(1, n, sharey=width == 4, squeeze=False)[0]


def scores(list, runs):
    """Target and impostor scores of one trial list, a panel per run."""
    figure, axes = panels(len(runs), 4)
    for axis, run in zip(axes, runs):
        counts = Counts.of(*read_scores(run, list))
        plots.histogram(counts, plots.thresholds(rates(counts)), axis)
        axis.set_title(f"{run.parent.name}, seed {run.name}", fontsize=10)
    figure.suptitle(list, fontsize=10)
    return figure


def over(runs, kind):
    """EER against the epochs (``budget``) or the share of the contrast
    (``balance``) of trainings, a dot each, and means."""
    lists = {}
    for run in runs:
        path = existing(run / "verification" / "metrics.json")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        rates = {name: 100 * found["eer"] for name, found in trials.items()}
        rates["geometric mean"] = np.exp(np.mean(np.log(list(rates.values()))))
        # <objective>/<seed>, and below it the fold
        seed = run if run.name.isdigit() else run.parent
        objective = seed.parent.name
        log = read_training_log(existing(run / "train_log.txt"))
        at = share_of_contrast(log)
        if kind == "budget":
            at, objective = max(log), re.sub(r"_\d+$", "", objective)
        for name, rate in rates.items():
            points = lists.setdefault(name, {}).setdefault(objective, [])
            points.append((at, rate))
    figure, axes = panels(len(lists), 3)
    for axis, (name, objectives) in zip(axes, lists.items()):
        for objective, points in objectives.items():
            points = np.array(sorted(points))
            starts = [0]
            if kind == "budget":
                starts = np.unique(points[:, 0], return_index=True)[1]
            groups = np.split(points, starts[1:])
            means = np.array([group.mean(0) for group in groups])
            (line,) = axis.plot(*means.T, "o-", label=objective)
            style = {"color": line.get_color(), "alpha": 0.4}
            axis.plot(*points.T, ".", **style)
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0)
        if kind == "budget":
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
    label = {"budget": "epochs", "balance": "share of the contrast"}[kind]
    figure.supxlabel(label, fontsize=10)
    axes[0].set_ylabel("EER (%)")
    named = axes[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside right upper", fontsize=8)
    return figure


def share_of_contrast(log):
    """Its part of the weights, the mean over the epochs."""
    weights = [
        [epoch.get(f"weight_{part}", 0.0) for epoch in log.values()]
        for part in ("classification", "contrastive")
    ]
    return sum(weights[1]) / (sum(map(sum, weights)) or 1.0)


def existing(path):
    """The path, if something is there."""
    if not path.exists():
        raise UserError(f"{path}: not there; is it of a tested run?")
    return path


def read_scores(run, name):
    """Scores and labels of one trial list."""
    folder = run / "verification"
    path = folder / f"scores-{name}.txt"
    path = existing(path if path.is_file() else folder / "scores.txt")
    rows = [line.split() for line in path.read_text("utf-8").splitlines()]
    return [float(row[-1]) for row in rows], [row[0] == "1" for row in rows]


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
