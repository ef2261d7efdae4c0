#!/usr/bin/env python3
"""Is a training step bound by its input or by the encoder?

    python benchmarks/loader.py results/benchmarks

Writes noise of 8 s as wav and flac into a temporary folder, packs it, and
measures how many crops per second arrive: whole files decoded and then cut,
crops read as SpeechBrain's recipe does, ours, and ours out of shards; by data
loader workers. Then the augmentation of a batch, and the encoder's forward and
backward. loader.md holds the table.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

import speechbrain as sb
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import AddNoise, AddReverb
from speechbrain.dataio import audio_io
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain_scl.data.augmentation import prepare_augmentation_folder
from speechbrain_scl.data.manifest import (
    Utterance,
    read_manifest,
    write_manifest,
)
from speechbrain_scl.data.packing import pack
from speechbrain_scl.files import written_aside
from speechbrain_scl.samplers import SpeakerBatchSampler
from speechbrain_scl.training.crops import read_crop

RATE = 16000


def whole(wav, start, stop, length):
    """Decodes all and cuts."""
    signal = audio_io.load(wav)[0].squeeze(0)
    first = random.randint(0, int(stop) - length)
    return signal[first : first + length]


def stock(wav, start, stop, length):
    """As the pipeline of SpeechBrain's VoxCeleb recipe reads."""
    first = random.randint(0, int(stop) - length)
    signal, _ = audio_io.load(wav, num_frames=length, frame_offset=first)
    return signal.transpose(0, 1).squeeze(1)


def ours(wav, start, stop, length):
    """As ours reads."""
    return read_crop(wav, start, stop, length, f"{random.random()}")


def write_corpus(folder, ending, files, seconds):
    """Two utterances per speaker; the manifest's path."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(files):
        path = folder / f"{i}.{ending}"
        soundfile.write(path, 0.1 * rng.normal(size=seconds * RATE), RATE)
        rows.append(
            Utterance(
                str(i), seconds, str(path), 0, seconds * RATE, str(i // 2)
            )
        )
    write_manifest(folder / f"{ending}.csv", rows)
    return str(folder / f"{ending}.csv")


def crops_per_second(manifest, read, workers, args):
    """Of the training's data loader."""
    rows = read_manifest(manifest)
    data = sb.dataio.dataset.DynamicItemDataset({u.ID: vars(u) for u in rows})
    length = int(args.crop * RATE)
    data.add_dynamic_item(
        lambda wav, start, stop: read(wav, start, stop, length),
        ["wav", "start", "stop"],
        "sig",
    )
    data.set_output_keys(["id", "sig"])
    sampler = SpeakerBatchSampler(
        [u.spk_id for u in rows], args.batch // 2, 2, seed=0
    )
    loader = SaveableDataLoader(
        data,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=sb.dataio.batch.PaddedBatch,
        persistent_workers=workers > 0,
    )
    for batch in loader:  # the files into the page cache, the workers up
        assert batch.sig.data.shape[1] == length
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < args.seconds:
        for batch in loader:
            n += len(batch.sig.data)
    return n / (time.perf_counter() - start)


def per_second(step, n, args):
    """How many crops a step on a batch deals with per second; the median."""
    times, begun = [], time.perf_counter()
    step()
    while len(times) < 3 or time.perf_counter() - begun < args.seconds:
        start = time.perf_counter()
        step()
        if args.device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return n / statistics.median(times)


def augmentation(folder, args):
    """Noise or reverberation, as the recipe's second view has it."""
    for kind in ("noise", "rir"):
        (folder / kind).mkdir()
        for i in range(20):
            length = 5 * RATE if kind == "noise" else RATE // 2
            signal = np.random.default_rng(i).normal(size=length)
            if kind == "rir":
                signal *= np.exp(-np.arange(length) / 1000)
            soundfile.write(folder / kind / f"{i}.wav", 0.1 * signal, RATE)
        prepare_augmentation_folder(
            str(folder / kind), str(folder / f"{kind}.csv")
        )
    augment = Augmenter(
        min_augmentations=1,
        max_augmentations=1,
        shuffle_augmentations=True,
        augmentations=[
            AddNoise(csv_file=str(folder / "noise.csv"), snr_high=15),
            AddReverb(csv_file=str(folder / "rir.csv")),
        ],
    )
    wavs = torch.randn(args.batch, int(args.crop * RATE), device=args.device)
    lengths = torch.ones(args.batch, device=args.device)
    return per_second(lambda: augment(wavs, lengths), args.batch, args)


def encoder(args):
    """Features, forward and backward of ECAPA-TDNN."""
    model = ECAPA_TDNN(
        80, channels=[args.channels] * 4 + [3 * args.channels], lin_neurons=192
    ).to(args.device)
    features = Fbank(n_mels=80).to(args.device)
    n = min(args.batch, 16) if args.device == "cpu" else args.batch
    wavs = torch.randn(n, int(args.crop * RATE), device=args.device)

    def step():
        with torch.autocast(
            torch.device(args.device).type,
            torch.bfloat16,
            enabled=args.precision == "bf16",
        ):
            model(features(wavs)).float().square().mean().backward()

    return per_second(step, n, args)


def main():
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", help="folder for loader.md")
    add("--files", type=int, default=256)
    add("--file-seconds", type=int, default=8)
    add("--crop", type=float, default=3.0, help="seconds")
    add("--batch", type=int, default=128, help="crops")
    add("--workers", type=int, nargs="+", default=[0, 1, 2])
    add("--channels", type=int, default=512, help="of ECAPA")
    add("--seconds", type=float, default=4.0, help="per measurement")
    add("--device", default="cpu", help="or cuda")
    add("--precision", default="fp32", choices=["fp32", "bf16"])
    args = parser.parse_args()
    torch.set_num_threads(1)  # as a data loader's workers

    heads = " | ".join(f"{n} workers" for n in args.workers)
    lines = [
        f"| crops/s | {heads} |",
        "|:--|" + "--:|" * len(args.workers),
    ]
    best = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for ending in ("wav", "flac"):
            manifest = write_corpus(
                folder, ending, args.files, args.file_seconds
            )
            pack(str(folder / "shards" / ending), [manifest])
            packed = str(folder / "shards" / ending / f"{ending}.csv")
            for name, source, read in (
                ("whole file, then cut", manifest, whole),
                ("crop, SpeechBrain's recipe", manifest, stock),
                ("crop, ours", manifest, ours),
                ("crop, ours, shards", packed, ours),
            ):
                found = [
                    crops_per_second(source, read, n, args)
                    for n in args.workers
                ]
                if read is ours:
                    best = max(best, *found)
                cells = " | ".join(f"{x:,.0f}" for x in found)
                lines.append(f"| {ending}: {name} | {cells} |")
        augmented = augmentation(folder, args)
    needed = encoder(args)
    lines += [
        "",
        f"Augmentation on {args.device}: {augmented:,.0f} crops/s. Encoder "
        f"(C = {args.channels}, {args.precision}, forward and backward, "
        f"{args.device}): {needed:,.1f} crops/s.",
        "",
        f"The loader delivers {best / needed:,.0f} times what the encoder "
        f"takes, the augmentation {augmented / needed:,.0f} times.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    with written_aside(str(Path(args.output) / "loader.md")) as file:
        file.write(text)


if __name__ == "__main__":
    main()
