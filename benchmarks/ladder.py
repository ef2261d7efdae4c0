#!/usr/bin/env python3
"""Trains and tests variants of the objective on one corpus, over seeds.

    python benchmarks/ladder.py --data-folder CORPUS --trials LIST [LIST ...]
        --output results/ladder --seeds 1 2 3 [-- TRAINING OVERRIDES]

Each run is the VoxCeleb recipe's own two scripts with overrides. A finished
run is not repeated and an interrupted training goes on from its last
checkpoint, so the same command resumes. The output folder then holds a table
(results.md, results.csv) and a plot (results.png).
"""

import argparse
import concurrent.futures
import csv
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import yaml  # noqa: E402

from speechbrain_scl.evaluation.bootstrap import bootstrap  # noqa: E402
from speechbrain_scl.evaluation.report import trial_speakers  # noqa: E402
from speechbrain_scl.evaluation.trials import read_trials  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "VoxCeleb" / "SpeakerRec"
RESAMPLES = 200


def main():
    """Runs what is missing and reports everything."""
    args = parse_arguments()
    variants = read_variants(args.variants, args.only)
    runs = [(name, seed) for seed in args.seeds for name in variants]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda run: run_one(args, variants, *run), runs))
    report(args, variants)


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    hparams = ROOT / "hparams"
    add("--data-folder", type=Path, required=True, help="it holds wav/")
    add("--trials", type=Path, nargs="+", required=True, help="trial lists")
    add("--test-folder", type=Path, help="of the trials, if another")
    add("--output", type=Path, default=Path("results/ladder"))
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--variants", type=Path, default=hparams / "ladder.yaml")
    add("--only", nargs="+", help="which variants, in the order to report")
    add("--train", type=Path, default=hparams / "ecapa_small.yaml")
    add("--verify", type=Path, default=hparams / "verification_small.yaml")
    add("--validation-only", action="store_true", help="test nothing")
    add("--jobs", type=int, default=1, help="runs at a time, a core each")
    add("overrides", nargs="*", help="of the training, after --")
    args = parser.parse_args()
    args.output = args.output.resolve()
    args.data_folder = args.data_folder.resolve()
    args.test_folder = (args.test_folder or args.data_folder).resolve()
    args.trials = [path.resolve() for path in args.trials]
    return args


def read_variants(path, only):
    """Name -> training overrides, as the YAML mapping spells them."""
    text = path.read_text(encoding="utf-8")
    variants = {
        name.value: [
            f"--{key.value}="
            + text[value.start_mark.index : value.end_mark.index].strip()
            for key, value in overrides.value
        ]
        for name, overrides in yaml.compose(text).value
    }
    unknown = [name for name in only or [] if name not in variants]
    if unknown:
        sys.exit(
            f"error: {path} has no variant {', '.join(unknown)}; it has "
            f"{', '.join(variants)}"
        )
    return {name: variants[name] for name in only or variants}


def run_one(args, variants, name, seed):
    """Trains and tests one variant with one seed, unless that is done."""
    folder = args.output / name / str(seed)
    lists = "[" + ", ".join(map(str, args.trials)) + "]"
    if not (folder / "inference").is_dir():
        script(
            args,
            folder,
            "train_speaker_embeddings.py",
            args.train,
            f"--seed={seed}",
            f"--output_folder={folder}",
            f"--data_folder={args.data_folder}",
            f"--verification_file={lists}",
            *args.overrides,
            *variants[name],
        )
    metrics = folder / "verification" / "metrics.json"
    if not args.validation_only and not metrics.is_file():
        script(
            args,
            folder,
            "speaker_verification_cosine.py",
            args.verify,
            f"--output_folder={metrics.parent}",
            f"--data_folder={args.test_folder}",
            f"--pretrain_path={folder / 'inference'}",
            f"--verification_file={lists}",
        )


def script(args, folder, name, hparams, *overrides):
    """Runs one of the recipe's scripts; several at a time write to files."""
    print(f"{folder.parent.name}, seed {folder.name}: {name}", flush=True)
    command = [sys.executable, name, str(hparams.resolve()), *overrides]
    environment = dict(os.environ)
    output = None
    if args.jobs > 1:
        environment["OMP_NUM_THREADS"] = "1"
        folder.mkdir(parents=True, exist_ok=True)
        output = open(folder / f"{Path(name).stem}.out", "a")
    result = subprocess.run(
        command,
        cwd=RECIPE,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
    )
    if result.returncode:
        hint = f"; see {output.name}" if output else ""
        raise SystemExit(f"error: {name} failed for {folder}{hint}")


def read_figures(args, name, seed):
    """List -> (EER, minDCF); the validation's EER in columns of its own."""
    folder = args.output / name / str(seed)
    log = (folder / "train_log.txt").read_text(encoding="utf-8")
    rates = [float(x) for x in re.findall(r"valid EER: ([\d.e+-]+)", log)]
    figures = {"validation": (min(rates), None)}
    if args.validation_only:
        # The best of a few noisy epochs flatters; their mean does not.
        last = rates[-max(1, len(rates) // 3) :]
        figures["validation, last third"] = (statistics.mean(last), None)
    else:
        metrics = json.loads(
            (folder / "verification" / "metrics.json").read_text("utf-8")
        )
        for path in args.trials:
            found = metrics["trials"][path.stem]
            figures[path.stem] = (found["eer"], found["min_dcf"])
    return figures


def report(args, variants):
    """Writes results.csv, results.md and results.png, and prints the table."""
    figures = {
        name: [read_figures(args, name, seed) for seed in args.seeds]
        for name in variants
    }
    columns = list(next(iter(figures.values()))[0])
    with open(args.output / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "list", "eer", "min_dcf"])
        for name in variants:
            for seed, found in zip(args.seeds, figures[name]):
                for column in columns:
                    writer.writerow([name, seed, column, *found[column]])

    lines = [
        "EER % / minDCF, mean ± standard deviation over seeds "
        f"{', '.join(map(str, args.seeds))}",
        "",
        "| objective | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name in variants:
        cells = []
        for column in columns:
            eers, costs = zip(*(found[column] for found in figures[name]))
            cell = spread([100 * x for x in eers], 2)
            if costs[0] is not None:
                cell += " / " + spread(costs, 3)
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if not args.validation_only and len(variants) > 1:
        found = differences(args, variants)
        lines += difference_table(args, next(iter(variants)), found)
    table = "\n".join(lines) + "\n"
    (args.output / "results.md").write_text(table, encoding="utf-8")

    figure, axes = plt.subplots(
        1, len(columns), figsize=(2 + 2.2 * len(columns), 3.6), squeeze=False
    )
    for axis, column in zip(axes[0], columns):
        for i, name in enumerate(variants):
            eers = [100 * found[column][0] for found in figures[name]]
            axis.plot([i] * len(eers), eers, "o", alpha=0.5, color=f"C{i}")
            axis.plot(i, statistics.mean(eers), "_", ms=24, color=f"C{i}")
        axis.set_title(column, fontsize=8)
        axis.set_xticks(range(len(variants)), variants, rotation=60)
        axis.set_xlim(-0.7, len(variants) - 0.3)
        axis.margins(y=0.2)
    axes[0][0].set_ylabel("EER (%), a dot per seed")
    figure.tight_layout()
    figure.savefig(args.output / "results.png", dpi=150)
    print(f"\n{table}\nTable and plot: {args.output}/results.{{md,csv,png}}")
    if not args.validation_only:
        print(
            "Scores, figures and report.html of each run: "
            f"{args.output}/<objective>/<seed>/verification"
        )


def differences(args, variants):
    """Variant -> (difference, low, high) in EER points to the first, a list
    after the other: paired bootstrap over the test speakers."""
    first, *others = variants
    found = {name: [] for name in others}
    for path in args.trials:
        trials = read_trials(str(path))
        *speakers, _ = trial_speakers(trials, lambda n: n.split("/")[0])
        systems = [
            read_scores(args, name, seed, path)
            for name in variants
            for seed in args.seeds
        ]
        rates, _ = bootstrap(systems, trials.labels, *speakers, RESAMPLES)
        rates = rates.reshape(len(variants), len(args.seeds), -1).mean(1)
        figures = {
            name: statistics.mean(
                read_figures(args, name, seed)[path.stem][0]
                for seed in args.seeds
            )
            for name in variants
        }
        for name, resampled in zip(others, rates[1:]):
            interval = np.nanpercentile(resampled - rates[0], [2.5, 97.5])
            difference = figures[name] - figures[first]
            found[name].append(100 * np.array([difference, *interval]))
    return found


def difference_table(args, first, found):
    """The differences as Markdown, and as differences.csv."""
    with open(args.output / "differences.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "list", "difference", "low", "high"])
        for name, cells in found.items():
            for path, cell in zip(args.trials, cells):
                writer.writerow([name, path.stem, *cell])
    return [
        "",
        f"EER difference to {first} in points (mean over seeds), with the "
        f"paired 95 % interval of {RESAMPLES} resamples of the test speakers",
        "",
        "| objective | " + " | ".join(p.stem for p in args.trials) + " |",
        "|---|" + "---|" * len(args.trials),
        *(
            f"| {name} | " + " | ".join(interval(*c) for c in cells) + " |"
            for name, cells in found.items()
        ),
    ]


def interval(difference, low, high):
    """As the tables show it."""
    return f"{difference:+.2f} ({low:+.2f} to {high:+.2f})"


def read_scores(args, name, seed, path):
    """The scores of a run, in the order of the trial list."""
    suffix = f"-{path.stem}" if len(args.trials) > 1 else ""
    folder = args.output / name / str(seed) / "verification"
    with open(folder / f"scores{suffix}.txt", encoding="utf-8") as file:
        return [float(line.rsplit(maxsplit=1)[1]) for line in file]


def spread(values, digits):
    """Mean and, over several seeds, standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


if __name__ == "__main__":
    main()
