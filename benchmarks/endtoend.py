#!/usr/bin/env python3
"""SpeechBrain's VoxCeleb recipe and ours from the files to the error rate.

    python -m demo.mini data/mini
    python benchmarks/endtoend.py results/benchmarks --corpus data/mini \\
        --speechbrain CHECKOUT

Both take the same corpus, encoder and features, batch size, view (one crop under
one of the same augmentations), number of training and validation utterances,
and length of what they validate on; both verify with the same parameters. The
encoder is that of hparams/ecapa_small.yaml, or the full one of SpeechBrain's
recipe. ``stock`` calls the functions of the recipe in a checkout of SpeechBrain,
which is no part of its package. They run in turn, each time in a process of its
own; endtoend.md holds the medians of the seconds by stage, on the clock and of
the CPU (which bears other work on the machine), and how far each embedding is
from that of the utterance alone.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import yaml
from hyperpyyaml import load_hyperpyyaml
from preparation import load

from speechbrain.augment.preparation import prepare_csv
from speechbrain.utils.metric_stats import EER, minDCF
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.augmentation import prepare_augmentation
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.names import locate
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.metrics import eer, min_dcf
from speechbrain_scl.evaluation.trials import read_trials, write_scores
from speechbrain_scl.files import atomic_write
from speechbrain_scl.training.run import train

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
ALONE = 32  # utterances that are embedded alone, too
# Channels, attention channels, ms between frames
ENCODERS = {"small": (64, 64, 20), "full": (1024, 128, 10)}


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
    add("--encoders", nargs="+", default=["small"], choices=ENCODERS)
    add("--threads", nargs="+", type=int, default=[1])
    add("--speakers", type=int, default=24, help="per batch")
    add("--valid-speakers", type=int, default=8)
    add("--crop", type=float, default=1.0, help="s; stock needs longer files")
    add("--repeats", type=int, default=3)
    args = parser.parse_args()
    for path in args.corpus.rglob("*.wav"):  # into the page cache
        path.read_bytes()
    texts = []
    for name in args.encoders:
        for threads in args.threads:
            text = f"{name} encoder, {threads} thread(s)\n\n"
            text += compared(name, threads, args)
            print(text, flush=True)
            texts.append(text)
            with atomic_write(str(args.output / "endtoend.md")) as file:
                file.write("\n".join(texts))


def compared(encoder, threads, args):
    """The table of one encoder, and the figures in words."""
    sides = [ours_end_to_end]
    if args.speechbrain:
        sides.append(stock_end_to_end)
    found = {side: [] for side in sides}
    words = {}
    for i in range(args.repeats):
        for side in sides[:: (-1) ** i]:
            with ProcessPoolExecutor(1, get_context("spawn")) as one:
                run = one.submit(one_run, side, encoder, threads, args)
                stages, words[side] = run.result()
            print(side.__name__, stages, flush=True)
            found[side].append(stages)
    ours, stock = (
        {
            stage: np.median([run[stage] for run in found[side]], axis=0)
            for stage in STAGES
        }
        if side in found
        else {}
        for side in (ours_end_to_end, stock_end_to_end)
    )
    return "\n".join([table(stock, ours), "", *words.values(), ""])


def one_run(side, encoder, threads, args):
    """Of either recipe, in a process that has computed nothing."""
    torch.set_num_threads(threads)
    # Two seconds of imports that PyTorch leaves to the first optimiser
    torch.optim.Adam([torch.zeros(1)])
    corpus = args.corpus.resolve()
    channels, attention, hop = ENCODERS[encoder]
    encoder = {
        "compute_features": {"hop_length": hop},
        "embedding_model": {
            "channels": [*4 * [channels], 3 * channels],
            "attention_channels": attention,
            "se_channels": attention,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        return side(corpus, corpus / args.list, Path(folder), encoder, args)


def table(stock, ours):
    """Seconds by stage, and their ratios."""
    lines = [
        "| stage | stock, s | ours, s | stock / ours | stock, CPU s | "
        "ours, CPU s | stock / ours, CPU |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    rows = {f"{name}: {what}": name for name, what in STAGES.items()}
    sums = [
        np.sum(list(side.values()), axis=0) if side else None
        for side in (stock, ours)
    ]
    for label, name in (*rows.items(), ("together", None)):
        theirs, mine = (
            total if name is None else side.get(name)
            for side, total in zip((stock, ours), sums)
        )
        cells = []
        for i in range(2):
            if theirs is None:
                cells += ["-", f"{mine[i]:.3g}", "-"]
            else:
                ratio = f"{theirs[i] / mine[i]:.2f}"
                cells += [f"{theirs[i]:.3g}", f"{mine[i]:.3g}", ratio]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def from_alone(files, vectors, alone):
    """How far embeddings are from those of the utterances alone, in words.

    Arguments
    ---------
    files : dict
        Name -> file; as many of them as ``ALONE`` are looked at.
    vectors : dict
        Name -> embedding.
    alone : function
        A waveform [1, time] to its embedding.
    """
    names = list(files)[:: -(-len(files) // ALONE)]
    with torch.inference_mode():
        wanted = [
            alone(
                torch.from_numpy(soundfile.read(files[n], dtype="float32")[0])[
                    None
                ]
            )
            for n in names
        ]
    found = [torch.as_tensor(vectors[name]) for name in names]
    found, wanted = (
        F.normalize(torch.stack([v.flatten().double() for v in side]))
        for side in (found, wanted)
    )
    cosine = (found * wanted).sum(1).min()
    moved = (found @ found.T - wanted @ wanted.T).abs().max()
    return (
        f"Of {len(names)} utterances, the least cosine to the utterance alone "
        f"is 1 - {1 - cosine:.1e}, and a pair's cosine moves by up to "
        f"{moved:.1e}."
    )


def ours_end_to_end(corpus, trials, folder, encoder, args):
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
            *(f"--{key}={value}" for key, value in encoder.items()),
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
    clock("preparation", prepare_augmentation, hparams)

    class Timed(SupConSpeakerBrain):
        def fit(self, *positional, **named):
            clock("epoch", super().fit, *positional, **named)

    train(Timed, hparams, run_opts, file, overrides)

    model = load_encoder(hparams["inference_folder"], str(folder / "models"))
    listed = clock("scoring", read_trials, str(trials))
    names = dict.fromkeys([*listed.enrol_ids, *listed.test_ids])
    found = locate(names, [str(corpus)], str(trials))
    cohort = read_manifest(hparams["train_annotation"])
    paths = found | {u.ID: u.wav for u in cohort}
    vectors = clock(
        "extraction", extract_embeddings, model.embed, paths, model.key
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
        f"Ours: {len(listed):,} trials of {len(found)} utterances, cohort of "
        f"{len(cohort)}, which are the training utterances; an EER of "
        f"{100 * rate:.1f} % after this one epoch. "
    )
    return clock.stages, words + from_alone(found, vectors, model)


def stock_end_to_end(corpus, trials, folder, encoder, args):
    """Seconds by stage of the functions of SpeechBrain's recipe."""
    clock = Clock()
    recipe = args.speechbrain.resolve() / RECIPE
    output = folder / "stock"
    (output / "save").mkdir(parents=True)
    shared = f"data_folder: {corpus}\noutput_folder: {output}\n"
    shared += yaml.safe_dump(encoder)
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
    files = {
        name: str(corpus / "wav" / f"{name}.wav") for name in script.test_dict
    }

    def alone(wav):
        return script.compute_embedding(wav, torch.ones(1))

    words = from_alone(files, script.test_dict, alone)
    return clock.stages, f"Stock, padded batches: {words}"


if __name__ == "__main__":
    sys.exit(main())
