#!/usr/bin/env python3
"""The table of a paper: each part of the objective, on the real corpora.

    python benchmarks/paper.py --voxceleb1 DIR --cnceleb DIR \\
        [--tidyvoice DIR] [--gpus N] [-- TRAINING OVERRIDES]

For each corpus it trains the full ECAPA-TDNN of its recipe with AAM-softmax
and with what hparams/paper.yaml adds to it, three seeds each, and tests by
cosine and with AS-norm, on CN-Celeb with both enrolment conventions. The hours
that it expects are printed first. What is finished is not repeated, so that
the same command goes on. table.md, with figures that others have published in
its last rows, and a page for each test (comparison.html) are left in --output.
"""

import argparse
import sys
from pathlib import Path

import ladder
import measure
import step
import torch
import yaml
from ladder_report import Ladder, cell, report

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.audio import find_audio

VARIANTS = measure.ROOT / "hparams" / "paper.yaml"
TESTS = Path(__file__).with_suffix(".yaml")
CORPORA = yaml.safe_load(TESTS.read_text(encoding="utf-8"))


def main():
    """Says what it will take, trains, tests, and writes the table."""
    args = parse_arguments()
    variants = ladder.read_variants(args.variants, args.only)
    for name in args.folders:
        say_hours(args, name, len(variants) * len(args.seeds))
    runs = [
        (name, variant, seed)
        for seed in args.seeds
        for name in args.folders
        for variant in variants
    ]
    ladder.run_all(1, lambda run: run_one(args, variants, *run), runs)
    lines = [table(args, name, list(variants)) for name in args.folders]
    measure.leave(args.output / "table.md", "\n".join(lines))


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("results/paper"))
    for name, corpus in CORPORA.items():
        help_ = f"folder of {corpus['recipe']}'s recipe"
        add(f"--{name}", type=Path, help=help_)
    add("--gpus", type=int, default=1, help="of each training (torchrun)")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--variants", type=Path, default=VARIANTS)
    add("--only", nargs="+", help="which variants, in the order to report")
    help_ = "--verification=OPTION, an override of the tests; repeatable"
    add("--verification", action="append", default=[], help=help_)
    add("overrides", nargs="*", help="of the trainings, after --")
    args = parser.parse_args()
    named = {name: getattr(args, name) for name in CORPORA}
    args.folders = {n: path.resolve() for n, path in named.items() if path}
    if not args.folders:
        parser.error("name the folder of one corpus or more")
    args.output, args.jobs = args.output.resolve(), 1
    return args


def train_yaml(name):
    """The recipe's file of a training."""
    recipe = measure.ROOT / "recipes" / CORPORA[name]["recipe"] / "SpeakerRec"
    return recipe / "hparams" / "ecapa_scl.yaml"


def say_hours(args, name, n_runs):
    """By a full step of the recipe's size, measured here and now."""
    folder = args.folders[name]
    given = [str(train_yaml(name)), f"--data_folder={folder}"]
    given += args.overrides
    hparams = read_experiment(given)[0]
    cuda = torch.cuda.is_available()
    sizes = argparse.Namespace(
        channels=hparams["embedding_model"].blocks[0].conv.conv.out_channels,
        speakers=hparams["out_n_neurons"],
        utterances=64 if cuda else 4,
        views=2,
        seconds=hparams["sentence_len"],
        device="cuda" if cuda else "cpu",
        pairs=3,
    )
    seconds = step.compare(sizes, "fp32")[0]["full"] / sizes.utterances
    n_files = len(find_audio(folder))  # those of the tests too
    hours = n_files * hparams["number_of_epochs"] * seconds / args.gpus / 3600
    print(
        f"{name}: {n_runs} trainings of at most about {hours:.3g} h each, "
        f"{n_runs * hours:,.3g} h together, less what is done",
        flush=True,
    )


def run_one(args, variants, name, variant, seed):
    """One training and its tests, unless they are done."""
    corpus, known = CORPORA[name], {"folder": args.folders[name]}
    run = known["run"] = args.output / name / variant / str(seed)
    train = train_yaml(name)
    recipe = train.parent.parent
    overrides = [f"--seed={seed}", f"--data_folder={known['folder']}"]
    overrides += [*args.overrides, *variants[variant]]
    if not ladder.is_trained(run, overrides):
        overrides.append(f"--output_folder={run}")
        how = {"recipe": recipe, "processes": args.gpus}
        ladder.script(args, run, ladder.TRAIN, train, *overrides, **how)
    verify = train.with_name("verification_ecapa_scl.yaml")
    for test, further in corpus["tests"].items():
        asked = [o.format(**known) for o in corpus["verification"] + further]
        asked += args.verification
        tests = run / folder_of(test)
        ladder.test(args, run, tests, verify, asked, *asked, recipe=recipe)


def folder_of(test):
    """In that of a run."""
    return test.replace(", ", "-")


def table(args, name, variants):
    """A row for each variant and each published system, a column for each
    test; of what was run here mean and deviation over the seeds."""
    corpus, titles = CORPORA[name], ["objective"]
    condition = corpus.get("condition", "")
    rows = {row: [row] for row in [*variants, *corpus["published"]]}
    for test in corpus["tests"]:
        runs = Ladder(
            args.output / name,
            variants,
            args.seeds,
            {"": []},
            folder_of(test),
            corpus["speaker_pattern"],
        )
        figures = runs.of_each(lambda *run: runs.metrics(*run)[""])
        # The lists by their names; their trials stand beside the scores.
        lists = list(figures[variants[0]][args.seeds[0]])
        runs.parts[""].extend(map(Path, lists))
        report(runs)  # with the intervals, and a page
        for trials in lists:
            titles.append(f"{test}: {trials} {condition}".strip())
            for variant, seeds in figures.items():
                found = [seed[trials] for seed in seeds.values()]
                if condition:
                    found = [f["conditions"][condition] for f in found]
                pairs = [(f["eer"], f["min_dcf"]) for f in found]
                rows[variant].append(cell(pairs))
            for system, said in corpus["published"].items():
                rows[system].append(said.get(test, ""))
    return (
        f"{name}: EER % / minDCF (p_target 0.01), mean ± standard deviation "
        f"over seeds {', '.join(map(str, args.seeds))}; below it figures of "
        "others, as they publish them\n\n"
    ) + measure.table(titles, rows.values())


if __name__ == "__main__":
    sys.exit(main())
