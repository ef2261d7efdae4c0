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
from typing import NamedTuple

import ladder
import measure
import step
import torch
from ladder_report import Ladder, cell, report

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.audio import find_audio


class Corpus(NamedTuple):
    """What differs between the recipes."""

    recipe: str
    verification: list  # overrides; {folder} is the corpus, {run} the training
    tests: dict  # name -> further overrides of the verification
    speaker_pattern: str
    published: dict  # system -> {test: "EER / minDCF"}, as they publish them
    condition: str = ""  # whose figures count, if not those of all trials


VARIANTS = measure.ROOT / "hparams" / "paper.yaml"
AS_NORM = ["--score_norm=as-norm", "--cohort={run}/save/train.csv"]
CONCAT = ["--enrolment_map={folder}/CN-Celeb_flac/eval/lists/enroll.lst"]
CORPORA = {
    "voxceleb1": Corpus(
        "VoxCeleb",
        ["--data_folder={folder}"],
        {"cosine": [], "as-norm": AS_NORM},
        "([^/]+)/",
        {
            "wespeaker ECAPA-512": {"cosine": "2.23", "as-norm": "2.00"},
            "wespeaker ResNet34": {"cosine": "1.99", "as-norm": "1.88"},
        },
    ),
    "cnceleb": Corpus(
        "CNCeleb",
        ["--corpus={folder}/CN-Celeb_flac", "--metadata={run}/save/eval.csv"],
        {
            "cosine, Avg": [],
            "as-norm, Avg": AS_NORM,
            "cosine, Concat": CONCAT,
            "as-norm, Concat": [*CONCAT, *AS_NORM],
        },
        "(?:test/)?(id[0-9]+)-",
        {
            "wespeaker ECAPA-512": {
                "cosine, Avg": "8.313 / 0.432",
                "as-norm, Avg": "7.644 / 0.390",
            },
            "wespeaker ECAPA-1024": {
                "cosine, Avg": "7.879 / 0.420",
                "as-norm, Avg": "7.412 / 0.379",
            },
            "wespeaker ResNet34": {
                "cosine, Avg": "7.134 / 0.408",
                "as-norm, Avg": "6.747 / 0.367",
            },
            "3D-Speaker ECAPA": {"cosine, Concat": "8.01 / 0.445"},
            "espnet ECAPA": {"cosine, Concat": "8.372 / 0.4552"},
        },
    ),
    "tidyvoice": Corpus(
        "TidyVoice",
        ["--corpus={folder}", "--metadata={run}/save/dev.csv"],
        {"cosine": [], "as-norm": AS_NORM},
        "([^/]+)/",
        {"challenge baseline (pretrained)": {"cosine": "3.07 / 0.82"}},
        "language: different",
    ),
}


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
        add(f"--{name}", type=Path, help=f"folder of {corpus.recipe}'s recipe")
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
    recipe = measure.ROOT / "recipes" / CORPORA[name].recipe / "SpeakerRec"
    return recipe / "hparams" / "ecapa_scl.yaml"


def say_hours(args, name, n_runs):
    """By a full step of the recipe's size, measured here and now."""
    yaml, folder = train_yaml(name), args.folders[name]
    given = [str(yaml), f"--data_folder={folder}", *args.overrides]
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
    seconds = step.compare(sizes, "fp32").full / sizes.utterances
    n_files = len(find_audio(folder))  # those of the tests too
    hours = n_files * hparams["number_of_epochs"] * seconds / args.gpus / 3600
    print(
        f"{name}: {n_runs} trainings of at most about {hours:.3g} h each, "
        f"{n_runs * hours:,.3g} h together, less what is done",
        flush=True,
    )


def run_one(args, variants, name, variant, seed):
    """One training and its tests, unless they are done."""
    corpus, folder = CORPORA[name], args.folders[name]
    run = args.output / name / variant / str(seed)
    yaml = train_yaml(name)
    recipe = yaml.parent.parent
    overrides = [f"--seed={seed}", f"--data_folder={folder}"]
    overrides += [*args.overrides, *variants[variant]]
    ladder.refuse_other_options(run, overrides)
    if not (run / "inference").is_dir():
        ladder.script(
            args,
            run,
            "train_speaker_embeddings.py",
            yaml,
            *overrides,
            f"--output_folder={run}",
            recipe=recipe,
            processes=args.gpus,
        )
    for test, further in corpus.tests.items():
        output = run / test.replace(", ", "-")
        known = {"folder": folder, "run": run}
        asked = [o.format(**known) for o in corpus.verification + further]
        asked += args.verification
        if ladder.is_tested(output, asked):
            continue
        ladder.script(
            args,
            run,
            "speaker_verification_cosine.py",
            recipe / "hparams" / "verification_ecapa_scl.yaml",
            f"--output_folder={output}",
            f"--pretrain_path={run / 'inference'}",
            *asked,
            recipe=recipe,
        )
        ladder.differs(output / "ladder.json", asked)


def table(args, name, variants):
    """A row for each variant and each published system, a column for each
    test; of what was run here mean and deviation over the seeds."""
    corpus = CORPORA[name]
    rows = {row: [] for row in [*variants, *corpus.published]}
    titles = []
    for test in corpus.tests:
        runs = Ladder(
            args.output / name,
            variants,
            args.seeds,
            {"": []},
            test.replace(", ", "-"),
            corpus.speaker_pattern,
        )
        figures = {
            variant: [runs.metrics(variant, seed)[""] for seed in args.seeds]
            for variant in variants
        }
        # The lists by their names; their trials stand beside the scores.
        lists = list(figures[variants[0]][0])
        runs.parts[""].extend(map(Path, lists))
        report(runs)  # with the intervals, and a page
        for trials in lists:
            titles.append(f"{test}: {trials} {corpus.condition}".strip())
            for variant, seeds in figures.items():
                found = [seed[trials] for seed in seeds]
                if corpus.condition:
                    found = [f["conditions"][corpus.condition] for f in found]
                pairs = [(f["eer"], f["min_dcf"]) for f in found]
                rows[variant].append(cell(pairs))
            for system, said in corpus.published.items():
                rows[system].append(said.get(test, ""))
    return (
        f"{name}: EER % / minDCF (p_target 0.01), mean ± standard deviation "
        f"over seeds {', '.join(map(str, args.seeds))}; below it figures of "
        "others, as they publish them\n\n"
    ) + measure.table(
        ["objective", *titles], [[row, *cells] for row, cells in rows.items()]
    )


if __name__ == "__main__":
    sys.exit(main())
