#!/usr/bin/env python3
"""The table of a paper: each part of the objective, on the real corpora.

    python benchmarks/paper.py --voxceleb1 DIR --cnceleb DIR \\
        [--tidyvoice DIR] [--gpus N] [-- TRAINING OVERRIDES]

For each corpus it trains the full ECAPA-TDNN of its recipe with AAM-softmax
and with what hparams/ladder.yaml adds to it, three seeds each, and tests by
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
import step
import torch
from ladder_report import Ladder, report, spread

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.audio import find_audio
from speechbrain_scl.files import atomic_write

RECIPES = ladder.ROOT / "recipes"


class Corpus(NamedTuple):
    """What differs between the recipes."""

    recipe: str
    audio: list  # folders of the training audio below the corpus
    verification: list  # overrides; {folder} is the corpus, {run} the training
    tests: dict  # name -> further overrides of the verification
    speaker_pattern: str
    published: dict  # test -> {system: "EER / minDCF"}, as they publish them
    condition: str = ""  # whose figures count, if not those of all trials


AS_NORM = ["--score_norm=as-norm", "--cohort={run}/save/train.csv"]
CONCAT = ["--enrolment_map={folder}/CN-Celeb_flac/eval/lists/enroll.lst"]
CORPORA = {
    "voxceleb1": Corpus(
        "VoxCeleb",
        ["wav"],
        ["--data_folder={folder}"],
        {"cosine": [], "as-norm": AS_NORM},
        "([^/]+)/",
        {
            "cosine": {
                "wespeaker ECAPA-512": "2.23",
                "wespeaker ResNet34": "1.99",
            },
            "as-norm": {
                "wespeaker ECAPA-512": "2.00",
                "wespeaker ResNet34": "1.88",
            },
        },
    ),
    "cnceleb": Corpus(
        "CNCeleb",
        ["CN-Celeb_flac/data", "CN-Celeb2_flac/data"],
        ["--corpus={folder}/CN-Celeb_flac", "--metadata={run}/save/eval.csv"],
        {
            "cosine, Avg": [],
            "as-norm, Avg": AS_NORM,
            "cosine, Concat": CONCAT,
            "as-norm, Concat": [*CONCAT, *AS_NORM],
        },
        "(?:test/)?(id[0-9]+)-",
        {
            "cosine, Avg": {
                "wespeaker ECAPA-512": "8.313 / 0.432",
                "wespeaker ECAPA-1024": "7.879 / 0.420",
                "wespeaker ResNet34": "7.134 / 0.408",
            },
            "as-norm, Avg": {
                "wespeaker ECAPA-512": "7.644 / 0.390",
                "wespeaker ECAPA-1024": "7.412 / 0.379",
                "wespeaker ResNet34": "6.747 / 0.367",
            },
            "cosine, Concat": {
                "3D-Speaker ECAPA": "8.01 / 0.445",
                "espnet ECAPA": "8.372 / 0.4552",
            },
        },
    ),
    "tidyvoice": Corpus(
        "TidyVoice",
        ["TidyVoiceX_Train"],
        ["--corpus={folder}", "--metadata={run}/save/dev.csv"],
        {"cosine": [], "as-norm": AS_NORM},
        "([^/]+)/",
        {"cosine": {"challenge baseline (pretrained)": "3.07 / 0.82"}},
        "language: different",
    ),
}


def main():
    """Says what it will take, trains, tests, and writes the table."""
    args = parse_arguments()
    variants = ladder.read_variants(args.variants, args.only)
    folders = {
        name: folder.resolve()
        for name in CORPORA
        if (folder := getattr(args, name)) is not None
    }
    n_runs = len(variants) * len(args.seeds)
    if not args.no_estimate:
        for name, folder in folders.items():
            hours = expected_hours(CORPORA[name], folder, args)
            print(
                f"{name}: {n_runs} trainings of about {hours:.1f} h each with "
                f"{args.gpus} GPU(s), {n_runs * hours:,.0f} h together",
                flush=True,
            )
    runs = [
        (name, variant, seed)
        for seed in args.seeds
        for name in folders
        for variant in variants
    ]
    ladder.run_all(
        1, lambda run: run_one(args, folders[run[0]], variants, *run), runs
    )
    lines = []
    for name in folders:
        lines += table(args, name, list(variants))
    with atomic_write(args.output / "table.md") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))


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
    add(
        "--variants", type=Path, default=ladder.ROOT / "hparams" / "ladder.yaml"
    )
    add("--only", nargs="+", help="which variants, in the order to report")
    add("--no-estimate", action="store_true", help="print no hours")
    help_ = "--verification=OPTION, an override of the tests; repeatable"
    add("--verification", action="append", default=[], help=help_)
    add("overrides", nargs="*", help="of the trainings, after --")
    args = parser.parse_args()
    if all(getattr(args, name) is None for name in CORPORA):
        parser.error("name the folder of one corpus or more")
    args.output, args.jobs = args.output.resolve(), 1
    return args


def expected_hours(corpus, folder, args):
    """Of one training, by a full step that is measured here and now."""
    yaml = RECIPES / corpus.recipe / "SpeakerRec" / "hparams" / "ecapa_scl.yaml"
    hparams, *_ = read_experiment(
        [str(yaml), f"--data_folder={folder}", *args.overrides]
    )
    n_files = sum(
        1 for audio in corpus.audio for _ in find_audio(str(folder / audio))
    )
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
    seconds = step.compare(sizes, "fp32").full
    crops = n_files * hparams["number_of_epochs"]
    return crops / sizes.utterances * seconds / args.gpus / 3600


def run_one(args, folder, variants, name, variant, seed):
    """One training and its tests, unless they are done."""
    corpus = CORPORA[name]
    run = args.output / name / variant / str(seed)
    recipe = RECIPES / corpus.recipe / "SpeakerRec"
    overrides = [f"--seed={seed}", f"--data_folder={folder}"]
    overrides += [*args.overrides, *variants[variant]]
    ladder.refuse_other_options(run, overrides)
    if not (run / "inference").is_dir():
        overrides.append(f"--output_folder={run}")
        ladder.script(
            args,
            run,
            "train_speaker_embeddings.py",
            recipe / "hparams" / "ecapa_scl.yaml",
            *overrides,
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
    corpus, columns = CORPORA[name], {}
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
            (variant, seed): runs.metrics(variant, seed)[""]
            for variant in variants
            for seed in args.seeds
        }
        # The lists by their names; their trials stand beside the scores.
        lists = next(iter(figures.values()))
        runs.parts[""].extend(Path(trials) for trials in lists)
        report(runs)  # with the intervals, and a page
        for trials in lists:
            title = f"{test}: {trials} {corpus.condition}".strip()
            column = columns.setdefault(title, {})
            for variant in variants:
                found = [figures[variant, seed][trials] for seed in args.seeds]
                if corpus.condition:
                    found = [f["conditions"][corpus.condition] for f in found]
                rates = spread([100 * f["eer"] for f in found], 2)
                costs = spread([f["min_dcf"] for f in found], 3)
                column[variant] = f"{rates} / {costs}"
            column.update(corpus.published.get(test, {}))
    rows = dict.fromkeys(row for column in columns.values() for row in column)
    return [
        f"{name}: EER % / minDCF (p_target 0.01), mean ± standard deviation "
        f"over seeds {', '.join(map(str, args.seeds))}; below it figures of "
        "others, as they publish them",
        "",
        f"| objective | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
        *(
            f"| {row} | "
            + " | ".join(column.get(row, "") for column in columns.values())
            + " |"
            for row in rows
        ),
        "",
    ]


if __name__ == "__main__":
    sys.exit(main())
