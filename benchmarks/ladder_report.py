"""The tables of a ladder's finished runs."""

import csv
import dataclasses
import json
import math
import re
import statistics
import zlib
from pathlib import Path

import numpy as np
from ladder_page import OVERALL, write_page

from speechbrain_scl.evaluation.bootstrap import bootstrap

RESAMPLES = 400


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Finished runs.

    Arguments
    ---------
    output : pathlib.Path
        Holds <variant>/<seed>/<part>.
    variants : list of str
        The first one is what the others are compared with.
    seeds : list of int
        Of each variant.
    parts : dict
        Part -> trial lists. A list of the same name in several parts (folds)
        is one column, the mean over the parts.
    verification : str
        The folder of each run with the lists' scores.
    speaker_pattern : str
        A regular expression whose group is the speaker of a name in a list.
    """

    output: Path
    variants: list
    seeds: list
    parts: dict
    verification: str = "verification"
    speaker_pattern: str = "([^/]+)/"

    @property
    def results(self):
        """Gets the tables; those of other lists have a folder of their own."""
        if self.verification == "verification":
            return self.output
        return self.output / self.verification

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

    def validation(self, variant, seed):
        """Best and mean of the last third of the EERs, over the parts.

        The best of a few noisy epochs flatters; their mean does not.
        """
        best, last = [], []
        for part in self.parts:
            log = self.folder(variant, seed, part) / "train_log.txt"
            text = log.read_text(encoding="utf-8")
            rates = re.findall(r"valid EER: ([\d.e+-]+)", text)
            rates = [float(rate) for rate in rates]
            best.append(min(rates))
            last += rates[-max(1, len(rates) // 3) :]
        return statistics.mean(best), statistics.mean(last)

    def metrics(self, variant, seed):
        """Part -> name of a list -> what was measured."""
        found = {}
        for part in self.parts:
            folder = self.folder(variant, seed, part) / self.verification
            text = (folder / "metrics.json").read_text(encoding="utf-8")
            found[part] = json.loads(text)["trials"]
        return found

    def figures(self, variant, seed):
        """Name of a list -> (EER, minDCF), the means over the parts."""
        metrics = self.metrics(variant, seed)
        return {
            name: tuple(
                statistics.mean(metrics[part][name][key] for part, _ in places)
                for key in ("eer", "min_dcf")
            )
            for name, places in self.columns().items()
        }

    def score_file(self, variant, seed, part, path):
        """What the verification wrote of a trial list."""
        suffix = f"-{path.stem}" if len(self.parts[part]) > 1 else ""
        folder = self.folder(variant, seed, part) / self.verification
        return folder / f"scores{suffix}.txt"

    def trials(self, variant, seed, part, path):
        """Of a run: labels, the speakers of both sides, scores."""
        pattern = re.compile(self.speaker_pattern)
        speakers, rows = {}, []
        name = self.score_file(variant, seed, part, path)
        with open(name, encoding="utf-8") as file:
            for line in file:
                label, *sides, score = line.split()
                for side in sides:
                    if side not in speakers:
                        speakers[side] = pattern.match(side)[1]
                rows.append((label == "1", *map(speakers.get, sides), score))
        labels, enrol, test, scores = map(np.array, zip(*rows))
        return labels, enrol, test, scores.astype(float)


def report(ladder, tested=True):
    """Writes results.{csv,md} and comparison.html; prints the table."""
    figures = {
        name: [
            read_figures(ladder, name, seed, tested) for seed in ladder.seeds
        ]
        for name in ladder.variants
    }
    columns = list(next(iter(figures.values()))[0])
    ladder.results.mkdir(exist_ok=True)
    with open(ladder.results / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "list", "eer", "min_dcf"])
        for name in ladder.variants:
            for seed, found in zip(ladder.seeds, figures[name]):
                for column in columns:
                    writer.writerow([name, seed, column, *found[column]])

    lines = [
        "EER % / minDCF, mean ± standard deviation over seeds "
        f"{', '.join(map(str, ladder.seeds))}",
        "",
        "| objective | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in ladder.variants:
        cells = []
        for column in columns:
            eers, costs = zip(*(found[column] for found in figures[name]))
            cell = spread([100 * x for x in eers], 2)
            if costs[0] is not None:
                cell += " / " + spread(costs, 3)
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    found, needed = {}, {}
    if tested and len(ladder.variants) > 1:
        rates = rates_of_lists(ladder, figures)
        found = differences(ladder, rates)
        needed = epochs_needed(ladder, rates)
    ratios = {name: ratios_of_seeds(ladder, figures, name) for name in found}
    if found:
        lines += difference_table(ladder, found, ratios)
    if needed:
        lines += [
            "",
            "Share of the reference's epochs after which its EER is reached:",
        ]
    lines += [
        f"- {name}: {share:.2f} ({low:.2f} to {high:.2f})"
        for name, (share, low, high) in needed.items()
    ]
    table = "\n".join(lines) + "\n"
    (ladder.results / "results.md").write_text(table, encoding="utf-8")
    write_page(ladder, figures, found, ratios, tested)
    print(
        f"\n{table}\nTable: {ladder.results}/results.{{md,csv}}\n"
        f"All runs on one page: {ladder.results / 'comparison.html'}"
    )
    if tested:
        print(
            "Scores, figures and report.html of each run: "
            f"{ladder.folder('<objective>', '<seed>', '')}/"
            f"{ladder.verification}"
        )


def read_figures(ladder, name, seed, tested):
    """Column -> (EER, minDCF); of the validation (EER, None)."""
    best, last = ladder.validation(name, seed)
    if tested:
        return {"validation": (best, None), **ladder.figures(name, seed)}
    return {"validation": (best, None), "validation, last third": (last, None)}


def rates_of_lists(ladder, figures):
    """List -> EERs, [variants, 1 + resamples]: what was found (the mean over
    folds and seeds), then that of each resample of the test speakers.
    """
    found = {}
    for column, places in ladder.columns().items():
        resampled = np.mean(
            [resampled_rates(ladder, part, path) for part, path in places], 0
        )
        means = [
            statistics.mean(seed[column][0] for seed in figures[name])
            for name in ladder.variants
        ]
        found[column] = np.column_stack([means, resampled])
    return found


def mean_log(rates):
    """Log of the geometric mean over the lists, [variants, 1 + resamples].

    No error at all among few trials is not an error rate of zero.
    """
    return np.mean([np.log(np.maximum(r, 1e-3)) for r in rates.values()], 0)


def differences(ladder, rates):
    """Variant -> list -> (difference to the first variant in EER points, low,
    high), and under ``overall`` the geometric mean over the lists of the
    ratio to it. Paired bootstrap over the test speakers.
    """
    overall = mean_log(rates)
    return {
        name: {
            **{
                column: 100 * estimate(found[i] - found[0])
                for column, found in rates.items()
            },
            OVERALL: estimate(np.exp(overall[i] - overall[0])),
        }
        for i, name in enumerate(ladder.variants)
        if i
    }


def epochs_needed(ladder, rates):
    """After how many epochs an objective has the reference's final EER.

    The variants are <objective>_<epochs>. An objective's curve is the log of
    its EER (the geometric mean over the lists), straight between its budgets
    against the log of the epochs; where it crosses what the first objective
    has at its longest budget is what it needs, as a share of that budget.

    Arguments
    ---------
    ladder : Ladder
        The runs.
    rates : dict
        Of ``rates_of_lists``.

    Returns
    -------
    dict
        Objective -> (share, low, high); inf where it never gets there. Empty
        where the variants are no budgets.
    """
    names = [re.fullmatch(r"(.+)_(\d+)", name) for name in ladder.variants]
    if not all(names):
        return {}
    curves = {}
    for name, row in zip(names, mean_log(rates)):
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


def estimate(row):
    """(what was found, low, high) from what was found and its resamples."""
    return np.array([row[0], *np.nanpercentile(row[1:], [2.5, 97.5])])


def resampled_rates(ladder, part, path):
    """EERs of all variants, the mean over the seeds, [variants, resamples]."""
    systems = []
    for name in ladder.variants:
        for seed in ladder.seeds:
            *trials, scores = ladder.trials(name, seed, part, path)
            systems.append(scores)
    labels, enrol, test = trials
    # Lists of the same speakers are resampled alike.
    draw = zlib.crc32(" ".join(sorted(set(enrol))).encode())
    _, numbers = np.unique([enrol, test], return_inverse=True)
    speakers = numbers.reshape(2, -1)
    rates, _ = bootstrap(systems, labels, *speakers, RESAMPLES, seed=draw)
    return rates.reshape(len(ladder.variants), len(ladder.seeds), -1).mean(1)


def ratios_of_seeds(ladder, figures, name):
    """Seed -> the geometric mean over the lists of the EER's ratio."""
    runs = zip(ladder.seeds, figures[ladder.variants[0]], figures[name])
    return {
        seed: np.exp(
            np.mean(
                [
                    np.log(max(other[c][0], 1e-3) / max(first[c][0], 1e-3))
                    for c in ladder.columns()
                ]
            )
        )
        for seed, first, other in runs
    }


def difference_table(ladder, found, ratios):
    """The differences as Markdown."""
    columns = list(ladder.columns())
    return [
        "",
        f"EER difference to {ladder.variants[0]} in points (mean over seeds), "
        f"with the paired 95 % interval of {RESAMPLES} resamples of the test "
        "speakers; overall: geometric mean over the lists of the EER's ratio, "
        "and what it is for each seed",
        "",
        f"| objective | {OVERALL} | by seed | " + " | ".join(columns) + " |",
        "|---|" + "---|" * (2 + len(columns)),
        *(
            f"| {name} | "
            + "{:.3f} ({:.3f} to {:.3f})".format(*cells[OVERALL])
            + " | "
            + ", ".join(f"{ratio:.2f}" for ratio in ratios[name].values())
            + " | "
            + " | ".join(interval(*cells[column]) for column in columns)
            + " |"
            for name, cells in found.items()
        ),
    ]


def interval(difference, low, high):
    """As the tables show it."""
    return f"{difference:+.2f} ({low:+.2f} to {high:+.2f})"


def spread(values, digits):
    """Mean and, over several seeds, standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text
