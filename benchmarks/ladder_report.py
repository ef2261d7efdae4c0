"""The tables of a ladder's finished runs."""

import csv
import dataclasses
import json
import math
import re
import zlib
from pathlib import Path
from statistics import mean, stdev

import measure
import numpy as np
from ladder_page import write_page

from speechbrain_scl.evaluation.bootstrap import bootstrap
from speechbrain_scl.evaluation.report import read_training_log

RESAMPLES = 400
OVERALL = "overall"
# No error at all among few trials is not an error rate of zero.
LEAST = 1e-3


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Finished runs in ``output``/<variant>/<seed>/<part>, their tests in the
    folder ``tests`` of each. The variants are compared with the first one.

    ``parts`` has the trial lists of each part: a list of the same name in
    several parts (folds) is one column, the mean over the parts. The group of
    ``speaker_pattern`` is the speaker of a name in a list.
    """

    output: Path
    variants: list
    seeds: list
    parts: dict
    tests: str = "verification"
    speaker_pattern: str = "([^/]+)/"

    @property
    def results(self):
        """Gets the tables; those of other lists have a folder of their own."""
        usual = self.tests == "verification"
        return self.output if usual else self.output / self.tests

    def columns(self):
        """Name of a list -> (part, path) pairs."""
        found = {}
        for part, paths in self.parts.items():
            for path in paths:
                found.setdefault(path.stem, []).append((part, path))
        return found

    def folder(self, variant, seed, part):
        """Of one run."""
        return self.output / variant / str(seed) / part

    def of_each(self, find):
        """Variant -> seed -> what is found of these runs."""
        return {
            name: {seed: find(name, seed) for seed in self.seeds}
            for name in self.variants
        }

    def curves(self, variant, seed):
        """Validation EER of each epoch, a list for each part."""
        folders = (self.folder(variant, seed, part) for part in self.parts)
        logs = (read_training_log(x / "train_log.txt") for x in folders)
        return [[epoch["EER"] for epoch in log.values()] for log in logs]

    def metrics(self, variant, seed):
        """Part -> name of a list -> what was measured."""
        found = {}
        for part in self.parts:
            folder = self.folder(variant, seed, part) / self.tests
            text = (folder / "metrics.json").read_text(encoding="utf-8")
            found[part] = json.loads(text)["trials"]
        return found

    def figures(self, variant, seed):
        """Name of a list -> (EER, minDCF), the means over the parts; of the
        validation the best EER alone."""
        metrics = self.metrics(variant, seed)
        best = mean(map(min, self.curves(variant, seed)))
        found = {"validation": (best, None)}
        for name, places in self.columns().items():
            found[name] = tuple(
                mean(metrics[part][name][key] for part, _ in places)
                for key in ("eer", "min_dcf")
            )
        return found

    def score_file(self, variant, seed, part, path):
        """What the verification wrote of a trial list."""
        suffix = f"-{path.stem}" if len(self.parts[part]) > 1 else ""
        folder = self.folder(variant, seed, part)
        return folder / self.tests / f"scores{suffix}.txt"

    def trials(self, variant, seed, part, path):
        """Of a run: labels, the speakers of both sides, scores."""
        file = self.score_file(variant, seed, part, path)
        lines = file.read_text("utf-8").splitlines()
        labels, *sides, scores = zip(*map(str.split, lines))
        sides = [
            [re.match(self.speaker_pattern, name)[1] for name in side]
            for side in sides
        ]
        return np.array(labels) == "1", *sides, np.array(scores, float)


def report(ladder):
    """Writes results.{csv,md} and comparison.html; prints the table."""
    figures = ladder.of_each(ladder.figures)
    columns = ["validation", *ladder.columns()]
    ladder.results.mkdir(exist_ok=True)
    with open(ladder.results / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "list", "eer", "min_dcf"])
        for name, seeds in figures.items():
            for seed, found in seeds.items():
                rows = ([name, seed, c, *found[c]] for c in columns)
                writer.writerows(rows)
    rows = [
        [name, *(cell([f[c] for f in seeds.values()]) for c in columns)]
        for name, seeds in figures.items()
    ]
    text = (
        "EER % / minDCF, mean ± standard deviation over seeds "
        f"{', '.join(map(str, ladder.seeds))}\n\n"
    ) + measure.table(["objective", *columns], rows)
    text += found_labels(ladder)
    found, ratios = {}, {}
    if len(ladder.variants) > 1:
        rates = rates_of_lists(ladder, figures)
        found = differences(ladder, rates)
        ratios = ratios_of_seeds(ladder, figures)
        text += difference_table(ladder, found, ratios)
        needed = epochs_needed(ladder, rates)
        if needed:
            text += "\nShare of the reference's epochs after which its EER is "
            text += "reached:\n"
        for name, (share, low, high) in needed.items():
            text += f"- {name}: {share:.2f} ({low:.2f} to {high:.2f})\n"
    (ladder.results / "results.md").write_text(text, encoding="utf-8")
    write_page(ladder, figures, found, ratios)
    print(
        f"\n{text}\nTable: {ladder.results}/results.{{md,csv}}\n"
        f"All runs on one page: {ladder.results / 'comparison.html'}\n"
        "Scores, figures and report.html of each run: "
        f"{ladder.folder('<objective>', '<seed>', '')}/{ladder.tests}"
    )


def found_labels(ladder):
    """How many wrong labels suspects.csv names after a training on all, as
    Markdown; empty where none are wrong."""
    head = ["training", "wrong labels", "suspected", "of the wrong ones, %"]
    head.append("of the suspected wrong, %")
    sums = ladder.of_each(
        lambda *run: sum(
            count_labels(ladder.folder(*run, p)) for p in ladder.parts
        )
    )
    rows = []
    for name, seeds in sums.items():
        wrong, suspected, hit = np.array(list(seeds.values()), float).T
        if not all(wrong):
            return ""
        run = ladder.folder(name, ladder.seeds[0], next(iter(ladder.parts)))
        if "--without=" in (run / "ladder.json").read_text("utf-8"):
            continue
        shares = [100 * hit / wrong, 100 * hit / np.maximum(suspected, 1)]
        columns = wrong, suspected, *shares
        rows.append([name, *(spread(column, 0) for column in columns)])
    return "\n" + measure.table(head, rows)


def count_labels(folder):
    """Of a run's training utterances: wrong labels, suspected, both."""
    if not (folder / "save" / "mislabelled.csv").is_file():
        return np.zeros(3)

    def column(file, key, value):
        text = (folder / file).read_text("utf-8")
        rows = csv.DictReader(text.splitlines())
        return {row[key]: row[value] for row in rows}

    given = column("save/mislabelled.csv", "ID", "spk_id")
    right = column("save/train.csv", "ID", "spk_id")
    suspected = column("suspects.csv", "utterance", "utterance")
    wrong = {name for name in given if given[name] != right[name]}
    return np.array([len(wrong), len(suspected), len(wrong & suspected.keys())])


def cell(figures):
    """Error rates and costs over the seeds."""
    rates, costs = zip(*figures)
    text = spread([100 * rate for rate in rates], 2)
    return text if None in costs else f"{text} / {spread(costs, 3)}"


def spread(values, digits):
    """Mean and, of several seeds, standard deviation."""
    text = f"{mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {stdev(values):.{digits}f}"
    return text


def rates_of_lists(ladder, figures):
    """List -> EERs, [variants, 1 + resamples]: what was found (the mean over
    folds and seeds), then that of each resample of the test speakers."""
    found = {}
    for column, places in ladder.columns().items():
        resampled = [resampled_rates(ladder, *place) for place in places]
        means = [
            mean(run[column][0] for run in seeds.values())
            for seeds in figures.values()
        ]
        found[column] = np.column_stack([means, np.mean(resampled, 0)])
    return found


def resampled_rates(ladder, part, path):
    """EERs of all variants, the mean over the seeds, [variants, resamples]."""
    systems = []
    for name in ladder.variants:
        for seed in ladder.seeds:
            labels, *sides, scores = ladder.trials(name, seed, part, path)
            systems.append(scores)
    # Lists of the same speakers are resampled alike.
    draw = zlib.crc32(" ".join(sorted(set(sides[0]))).encode())
    _, numbers = np.unique(sides, return_inverse=True)
    speakers = numbers.reshape(2, -1)
    rates, _ = bootstrap(systems, labels, *speakers, RESAMPLES, seed=draw)
    return rates.reshape(len(ladder.variants), len(ladder.seeds), -1).mean(1)


def mean_log(rates):
    """Log of the geometric mean over the lists' rates, an array each."""
    return np.mean([np.log(np.maximum(r, LEAST)) for r in rates], 0)


def differences(ladder, rates):
    """Variant -> list -> (difference to the first variant in EER points, low,
    high), and under ``overall`` the geometric mean over the lists of the
    ratio to it. Paired bootstrap over the test speakers."""

    def estimate(row):
        return [row[0], *np.nanpercentile(row[1:], [2.5, 97.5])]

    overall = mean_log(rates.values())
    return {
        name: {OVERALL: estimate(np.exp(overall[i] - overall[0]))}
        | {c: estimate(100 * (x[i] - x[0])) for c, x in rates.items()}
        for i, name in enumerate(ladder.variants[1:], 1)
    }


def ratios_of_seeds(ladder, figures):
    """Variant -> seed -> the geometric mean over the lists of the EER's ratio
    to the first variant."""

    def log(name, seed):
        found = figures[name][seed]
        return mean_log([found[column][0] for column in ladder.columns()])

    first, *others = ladder.variants
    return {
        x: {n: np.exp(log(x, n) - log(first, n)) for n in ladder.seeds}
        for x in others
    }


def difference_table(ladder, found, ratios):
    """The differences as Markdown."""
    columns = list(ladder.columns())
    rows = [
        [
            name,
            "{:.3f} ({:.3f} to {:.3f})".format(*cells[OVERALL]),
            ", ".join(f"{ratio:.2f}" for ratio in ratios[name].values()),
            *(
                "{:+.2f} ({:+.2f} to {:+.2f})".format(*cells[c])
                for c in columns
            ),
        ]
        for name, cells in found.items()
    ]
    return (
        f"\nEER difference to {ladder.variants[0]} in points (mean over seeds),"
        f" with the paired 95 % interval of {RESAMPLES} resamples of the test "
        "speakers; overall: geometric mean over the lists of the EER's ratio, "
        "and what it is for each seed\n\n"
        + measure.table(["objective", OVERALL, "by seed", *columns], rows)
    )


def epochs_needed(ladder, rates):
    """After what share of the reference's longest budget an objective has its
    EER: objective -> (share, low, high), inf where it never does.

    The variants are <objective>_<epochs>; empty where they are no budgets. A
    curve is the log of the EER (the geometric mean over the lists), straight
    between the budgets against the log of the epochs.
    """
    names = [re.fullmatch(r"(.+)_(\d+)", name) for name in ladder.variants]
    if not all(names):
        return {}
    curves = {}
    for name, row in zip(names, mean_log(rates.values())):
        curves.setdefault(name[1], {})[int(name[2])] = row
    reference, *others = curves
    budget = max(curves[reference])
    goal = curves[reference][budget]
    found = {}
    for name in others:
        curve = curves[name]
        shares = [crossing(curve, i, x) / budget for i, x in enumerate(goal)]
        # The nearest: between two numbers of which one is inf there is none.
        bounds = np.percentile(shares[1:], [2.5, 97.5], method="nearest")
        found[name] = (shares[0], *bounds)
    return found


def crossing(curve, i, goal):
    """Epochs at which resample ``i`` of a curve first falls to the goal."""
    budgets = sorted(curve)
    if curve[budgets[0]][i] <= goal:
        return budgets[0]  # or before: what is known of it
    for before, after in zip(budgets, budgets[1:]):
        high, low = curve[before][i], curve[after][i]
        if low <= goal:
            share = (high - goal) / (high - low)
            return before ** (1 - share) * after**share
    return math.inf
