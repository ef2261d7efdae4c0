#!/usr/bin/env python3
"""SpeechBrain's VoxCeleb recipe and ours from the files to the error rate.

    python -m demo.mini data/mini
    python benchmarks/endtoend.py results/benchmarks --corpus data/mini \\
        --speechbrain CHECKOUT

Both take the same corpus, encoder and features (hparams/ecapa_small.yaml),
batch size, view (one crop under one of the same augmentations), number of
training and validation utterances, and length of what they validate on; both
verify with the same parameters. ``stock`` calls the functions of the recipe in
a checkout of SpeechBrain, which is no part of its package. They run in turn,
each time in a process of its own, on one thread; endtoend.md holds the quickest
seconds by stage, on the clock and of the CPU: the second number bears other
work on the machine.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from hyperpyyaml import load_hyperpyyaml
from preparation import load

from speechbrain.augment.preparation import prepare_csv
from speechbrain.utils.metric_stats import EER, minDCF
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.names import locate
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.metrics import eer, min_dcf
from speechbrain_scl.evaluation.trials import read_trials, write_scores
from speechbrain_scl.files import atomic_write
from speechbrain_scl.training import run

ROOT = Path(__file__).resolve().parent.parent
RECIPE = Path("recipes") / "VoxCeleb" / "SpeakerRec"
STAGES = {
    "preparation": "manifests of training, noise, reverberation and test",
    "epoch": "one epoch and the validation",
    "extraction": "both sides of the list, and the cohort",
    "scoring": "as-norm of the list, and its file",
    "metrics": "EER and minDCF",
}
TOP_N = 100


class Clock:
    """Seconds by stage: (on the clock, of the CPU)."""

    def __init__(self):
        self.stages = {}

    def __call__(self, stage, function, *args, **kwargs):
        """Runs the function as a part of the stage."""
        before = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        after = time.perf_counter(), time.process_time()
        spent = self.stages.get(stage, (0.0, 0.0))
        self.stages[stage] = tuple(
            s + b - a for s, a, b in zip(spent, before, after)
        )
        return result


def main():
    """Runs both and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder for endtoend.md")
    add("--corpus", type=Path, required=True, help="the mini corpus")
    add("--speechbrain", type=Path, help="checkout; without it ours alone")
    add("--list", default="trials-same-language.txt", help="of the corpus")
    add("--speakers", type=int, default=24, help="per batch")
    add("--valid-speakers", type=int, default=8)
    add("--crop", type=float, default=1.0, help="s; stock needs longer files")
    add("--repeats", type=int, default=3)
    args = parser.parse_args()
    for path in args.corpus.rglob("*.wav"):  # into the page cache
        path.read_bytes()
    sides = [ours_end_to_end]
    if args.speechbrain:
        sides.append(stock_end_to_end)
    found = {side: [] for side in sides}
    for i in range(args.repeats):
        for side in sides[:: (-1) ** i]:
            with ProcessPoolExecutor(1, get_context("spawn")) as one:
                stages, words = one.submit(one_run, side, args).result()
            print(side.__name__, stages, flush=True)
            found[side].append(stages)
            if side is ours_end_to_end:
                facts = words
    ours, stock = (
        {
            stage: np.min([run[stage] for run in runs], axis=0)
            for stage in STAGES
        }
        if (runs := found.get(side))
        else {}
        for side in (ours_end_to_end, stock_end_to_end)
    )
    text = table(stock, ours) + f"\n\n{facts}\n"
    print(text)
    with atomic_write(str(args.output / "endtoend.md")) as file:
        file.write(text)


def one_run(side, args):
    """Of either recipe, in a process that has computed nothing."""
    torch.set_num_threads(1)
    # Two seconds of imports that PyTorch leaves to the first optimiser
    torch.optim.Adam([torch.zeros(1)])
    corpus = args.corpus.resolve()
    with tempfile.TemporaryDirectory() as folder:
        return side(corpus, corpus / args.list, Path(folder), args)


def table(stock, ours):
    """Seconds by stage, and the ratios of what the CPU needed."""
    lines = [
        "| stage | stock, s | stock, CPU s | ours, s | ours, CPU s | "
        "stock / ours, CPU |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    rows = {f"{name}: {what}": name for name, what in STAGES.items()}
    sums = [
        np.sum(list(side.values()), axis=0) if side else None
        for side in (stock, ours)
    ]
    for label, name in (*rows.items(), ("together", None)):
        first, second = (
            total if name is None else side.get(name)
            for side, total in zip((stock, ours), sums)
        )
        cells = [
            f"{x:.3g}" if x < 1000 else f"{x:,.0f}"
            for pair in (first, second)
            if pair is not None
            for x in pair
        ]
        ratio = "-" if first is None else f"{first[1] / second[1]:.2f}"
        cells = ["-"] * (4 - len(cells)) + cells
        lines.append(f"| {label} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def ours_end_to_end(corpus, trials, folder, args):
    """Seconds by stage, and the figures in words."""
    clock = Clock()
    output = folder / "ours"
    hparams, run_opts, file, overrides = read_experiment(
        [
            str(ROOT / "hparams" / "ecapa_small.yaml"),
            f"--data_folder={corpus}",
            f"--output_folder={output}",
            f"--verification_file={trials}",
            "--number_of_epochs=1",
            f"--sentence_len={args.crop}",
            f"--valid_len={args.crop}",
            f"--valid_speakers={args.valid_speakers}",
            f"--speakers_per_batch={args.speakers}",
            "--device=cpu",
        ]
    )
    output.mkdir(exist_ok=True)
    prepare = load(ROOT / RECIPE.parent / "voxceleb_prepare.py", "ours")
    names = ("valid_speakers", "min_duration", "check_audio", "max_excluded")
    clock(
        "preparation",
        prepare.prepare_voxceleb,
        str(corpus),
        hparams["save_folder"],
        verification_files=str(trials),
        seed=hparams["seed"],
        **{name: hparams[name] for name in names},
    )
    for kind in ("noise", "rir"):
        clock("preparation", hparams[f"prepare_{kind}_data"])

    class Timed(run.SupConSpeakerBrain):
        def fit(self, *positional, **named):
            clock("epoch", super().fit, *positional, **named)

    whole, run.SupConSpeakerBrain = run.SupConSpeakerBrain, Timed
    try:
        run.train(hparams, run_opts, file, overrides)
    finally:
        run.SupConSpeakerBrain = whole

    encoder = load_encoder(hparams["inference_folder"], str(folder / "models"))
    listed = clock("scoring", read_trials, str(trials))
    names = dict.fromkeys([*listed.enrol_ids, *listed.test_ids])
    found = locate(names, [str(corpus)], str(trials))
    cohort = read_manifest(hparams["train_annotation"])
    paths = found | {u.ID: u.wav for u in cohort}
    vectors = clock(
        "extraction", extract_embeddings, encoder.embed, paths, encoder.key
    )

    def score():
        enrol, test, others = (
            np.stack([vectors[name] for name in names])
            for names in (
                listed.enrol_ids,
                listed.test_ids,
                [u.ID for u in cohort],
            )
        )
        top = min(TOP_N, len(others))
        index = listed.enrol_index, listed.test_index
        scored = listed.with_scores(
            scoring.normalized_scores(
                others, "as-norm", top, enrol, test, *index
            )
        )
        write_scores(str(output / "scores.txt"), scored)
        return scored.scores, scored.labels

    scored = clock("scoring", score)
    rate, _ = clock("metrics", eer, *scored)
    clock("metrics", min_dcf, *scored)
    words = (
        f"{len(listed):,} trials of {len(found)} utterances, cohort of "
        f"{len(cohort)}, which are the training utterances. Ours has an EER "
        f"of {100 * rate:.1f} % after this one epoch"
    )
    return clock.stages, words + "."


def stock_end_to_end(corpus, trials, folder, args):
    """Seconds by stage of the functions of SpeechBrain's recipe."""
    clock = Clock()
    recipe = args.speechbrain.resolve() / RECIPE
    output = folder / "stock"
    (output / "save").mkdir(parents=True)
    encoder = "channels: [64, 64, 64, 64, 192], attention_channels: 64"
    shared = f"data_folder: {corpus}\noutput_folder: {output}\n"
    shared += f"embedding_model: {{{encoder}, se_channels: 64}}\n"
    shared += "compute_features: {hop_length: 20}\n"
    # Its training and its verification prepare alike; here they do it once.
    prepare = load(recipe.parent / "voxceleb_prepare.py", "stock")
    clock(
        "preparation",
        prepare.prepare_voxceleb,
        data_folder=str(corpus),
        save_folder=str(output / "save"),
        verification_pairs_file=str(trials),
        splits=["train", "dev", "test"],
        split_ratio=[80, 20],
        seg_dur=args.crop,
        random_segment=True,
    )
    with open(recipe / "hparams" / "train_ecapa_tdnn.yaml") as file:
        hparams = load_hyperpyyaml(
            file,
            shared
            + "number_of_epochs: 1\nnum_workers: 0\n"
            + f"sentence_len: {args.crop}\n"
            + f"batch_size: {2 * args.speakers}\nout_n_neurons: 500\n"
            + "wav_augment: {parallel_augment: False, concat_original: False, "
            + "min_augmentations: 1, max_augmentations: 1, "
            + "shuffle_augmentations: True, augmentations: "
            + "[!ref <add_noise>, !ref <add_reverb>, !ref <drop_chunk>]}\n",
        )
    for kind in ("noise", "rir"):  # as what it calls has downloaded them
        clock(
            "preparation",
            prepare_csv,
            sorted(map(str, (corpus / kind).rglob("*.wav"))),
            hparams[f"{kind}_annotation"],
        )
    training = load(recipe / "train_speaker_embeddings.py", "stock")
    train_data, valid_data, _ = training.dataio_prep(hparams)
    brain = training.SpeakerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts={"device": "cpu"},
        checkpointer=hparams["checkpointer"],
    )
    clock(
        "epoch",
        brain.fit,
        brain.hparams.epoch_counter,
        train_data,
        valid_data,
        train_loader_kwargs=hparams["dataloader_options"],
        valid_loader_kwargs=hparams["dataloader_options"],
    )

    script = load(recipe / "speaker_verification_cosine.py", "stock")
    with open(recipe / "hparams" / "verification_ecapa.yaml") as file:
        script.params = load_hyperpyyaml(
            file, shared + f"cohort_size: {TOP_N}\n"
        )
    script.run_opts = {"device": "cpu"}
    model = script.params["embedding_model"].eval()
    model.load_state_dict(hparams["embedding_model"].state_dict())
    loaders = script.dataio_prep(script.params)
    script.train_dict, script.enrol_dict, script.test_dict = (
        clock("extraction", script.compute_embedding_loop, loader)
        for loader in loaders
    )
    lines = trials.read_text().splitlines()
    positive, negative = clock("scoring", script.get_verification_scores, lines)
    positive, negative = torch.tensor(positive), torch.tensor(negative)
    clock("metrics", EER, positive, negative)
    clock("metrics", minDCF, positive, negative)
    return clock.stages, ""


if __name__ == "__main__":
    sys.exit(main())
