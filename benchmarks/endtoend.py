#!/usr/bin/env python3
"""SpeechBrain's VoxCeleb recipe and ours from the files to the error rate.

    python -m demo.mini data/mini
    python benchmarks/endtoend.py results/benchmarks --corpus data/mini \\
        --speechbrain CHECKOUT

On one thread, or as many as OMP_NUM_THREADS has. Both take the same corpus,
encoder and features, batch size, view (one crop under one of the same
augmentations), number of training and validation utterances, and length of what
they validate on; both verify with the same parameters. The encoder is that of
hparams/ecapa_small.yaml, or the full one of SpeechBrain's recipe. ``stock`` calls
the functions of the recipe in a checkout of SpeechBrain, which is no part of its
package. They run in turn, each time in a process of its own; endtoend.md holds
the medians of the seconds by stage, on the clock and of the CPU (which bears
other work on the machine), and how far each embedding is from that of the
utterance alone.
"""

import tempfile
from pathlib import Path

import measure
import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import yaml
from hyperpyyaml import load_hyperpyyaml
from mislabel import prepare

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
from speechbrain_scl.training.run import train

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


class Clock(dict):
    """[Seconds on the clock, of the CPU] by stage."""

    def __call__(self, stage, function, *args, **kwargs):
        """Runs the function as a part of the stage."""
        found, took = measure.spent(function, *args, **kwargs)
        self[stage] = self.get(stage, 0) + np.array(took)
        return found


def main():
    """Runs both and leaves the table."""
    args = measure.options(
        __doc__,
        corpus=(None, "the mini corpus"),
        speechbrain=(None, "checkout"),
        list=("trials-same-language.txt", "of the corpus"),
        encoders=(["small"], None, ENCODERS),
        speakers=(24, "per batch"),
        valid_speakers=8,
        crop=(1.0, "s; stock needs longer files"),
        repeats=3,
    )
    for path in args.corpus.rglob("*.wav"):  # into the page cache
        path.read_bytes()
    sides, texts = {"stock": stock_end_to_end, "ours": ours_end_to_end}, []
    for encoder in args.encoders:
        found, words = {"stock": [], "ours": []}, {}
        for i in range(args.repeats):
            for side in list(sides)[:: (-1) ** i]:
                run = measure.alone(one_run, sides[side], encoder, args)
                found[side].append([run[0][name] for name in STAGES])
                words[side] = f"{side}: {run[1]}\n"
        text = table(*(np.median(runs, axis=0) for runs in found.values()))
        texts.append(f"{encoder} encoder\n\n{text}\n{''.join(words.values())}")
        measure.leave(args.output / "endtoend.md", "\n".join(texts))


def one_run(side, encoder, args):
    """Of either recipe, in a process that has computed nothing."""
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


def table(*sides):
    """[stages, clock and CPU] of both, their sums, and their ratios."""
    head = ["stage"]
    for kind in ("s", "CPU s"):
        head += [f"stock, {kind}", f"ours, {kind}", f"stock / ours, {kind}"]
    labels = [f"{name}: {what}" for name, what in STAGES.items()]
    rows = [[label] for label in [*labels, "together"]]
    for row, *both in zip(rows, *(np.vstack([x, x.sum(0)]) for x in sides)):
        for stock, ours in zip(*both):
            row += [f"{stock:.3g}", f"{ours:.3g}", f"{stock / ours:.2f}"]
    return measure.table(head, rows)


def from_alone(files, vectors, alone):
    """How far embeddings are from those of the utterances alone, in words.

    ``files`` and ``vectors`` have a file and an embedding for each name;
    ``alone`` makes one of a waveform [1, time].
    """
    names = list(files)[:: -(-len(files) // ALONE)]
    wavs = (soundfile.read(files[n], dtype="float32")[0] for n in names)
    with torch.inference_mode():
        wanted = [alone(torch.from_numpy(wav)[None]) for wav in wavs]
    found, wanted = (
        F.normalize(torch.stack([v.flatten().double() for v in side]))
        for side in ([torch.as_tensor(vectors[n]) for n in names], wanted)
    )
    cosine = (found * wanted).sum(1).min()
    moved = (found @ found.T - wanted @ wanted.T).abs().max()
    return (
        f"of {len(names)} utterances, the least cosine to the utterance alone "
        f"is 1 - {1 - cosine:.1e}, the largest change of a pair's {moved:.1e}"
    )


def ours_end_to_end(corpus, trials, folder, encoder, args):
    """Seconds by stage, and the figures in words."""
    clock = Clock()
    output = folder / "ours"
    hparams, run_opts, file, overrides = read_experiment(
        [
            str(measure.ROOT / "hparams" / "ecapa_small.yaml"),
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
    clock("preparation", prepare, hparams)
    clock("preparation", prepare_augmentation, hparams)

    class Timed(SupConSpeakerBrain):
        def fit(self, *positional, **named):
            clock("epoch", super().fit, *positional, **named)

    train(Timed, hparams, run_opts, file, overrides)

    model = load_encoder(hparams["inference_folder"], str(folder / "models"))
    listed = clock("scoring", read_trials, str(trials))
    names = dict.fromkeys([*listed.enrol_ids, *listed.test_ids])
    found = locate(names, [str(corpus)], str(trials))
    cohort = {u.ID: u.wav for u in read_manifest(hparams["train_annotation"])}
    vectors = clock(
        "extraction", extract_embeddings, model.embed, found | cohort, model.key
    )

    def score():
        others, *sides = (
            np.stack([vectors[name] for name in names])
            for names in (cohort, listed.enrol_ids, listed.test_ids)
        )
        sides += listed.enrol_index, listed.test_index
        n = min(TOP_N, len(others))
        scores = scoring.normalized_scores(others, "as-norm", n, *sides)
        scored = listed.with_scores(scores)
        write_scores(str(output / "scores.txt"), scored)
        return scored.scores, scored.labels

    scored = clock("scoring", score)
    rate, _ = clock("metrics", eer, *scored)
    clock("metrics", min_dcf, *scored)
    words = (
        f"{len(listed):,} trials of {len(found)} utterances, {len(cohort)} of "
        f"training and cohort, EER {100 * rate:.1f} % after this epoch; "
    )
    return clock, words + from_alone(found, vectors, model)


def stock_end_to_end(corpus, trials, folder, encoder, args):
    """The same of the functions of SpeechBrain's recipe."""
    clock = Clock()
    recipe = args.speechbrain.resolve() / RECIPE
    output = folder / "stock"
    (output / "save").mkdir(parents=True)
    shared = f"data_folder: {corpus}\noutput_folder: {output}\n"
    shared += yaml.safe_dump(encoder)
    # Its training and its verification prepare alike; here they do it once.
    script = recipe.parent / "voxceleb_prepare.py"
    clock(
        "preparation",
        measure.module(script, "stock").prepare_voxceleb,
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
        files = sorted(map(str, (corpus / kind).rglob("*.wav")))
        annotation = hparams[f"{kind}_annotation"]
        clock("preparation", prepare_csv, files, annotation)
    training = measure.module(recipe / "train_speaker_embeddings.py", "stock")
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

    script = measure.module(recipe / "speaker_verification_cosine.py", "stock")
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
    scores = clock("scoring", script.get_verification_scores, lines)
    scores = list(map(torch.tensor, scores))
    clock("metrics", EER, *scores)
    clock("metrics", minDCF, *scores)
    files = {
        name: str(corpus / "wav" / f"{name}.wav") for name in script.test_dict
    }

    def alone(wav):
        return script.compute_embedding(wav, torch.ones(1))

    return clock, from_alone(files, script.test_dict, alone)


if __name__ == "__main__":
    main()
