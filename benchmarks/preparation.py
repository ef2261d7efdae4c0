#!/usr/bin/env python3
"""Time of VoxCeleb's preparation against SpeechBrain's own.

    python benchmarks/preparation.py results/benchmarks --speechbrain CHECKOUT

1,000 generated files of 8 s in VoxCeleb's layout, in the page cache, both in
turn: SpeechBrain's recipe (which is no part of its package) decodes each file,
ours reads headers and each file's end, or decodes all (``full``). Leaves
preparation.md.

    python benchmarks/preparation.py results/benchmarks --many 10000 100000

ours alone on more files (hard links to some of 1 s), each in a process of its
own: preparation-many.md.
"""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import measure
import numpy as np
import soundfile

SCRIPT = Path("recipes") / "VoxCeleb" / "voxceleb_prepare.py"
# SpeechBrain's recipe looks for these by name.
SPEAKERS = ["id10001", "id00012", *(f"id{20000 + i}" for i in range(48))]
SAMPLE_RATE = 16000


def main():
    """The command line."""
    args = measure.options(
        __doc__,
        speechbrain=("", "its checkout"),
        many=([], "files"),
        files=1000,
        repeats=5,
    )
    if args.many:
        head = ["files", "s", "CPU s", "peak, MiB", "of which before, MiB"]
        rows = [measure.alone(many_files, n) for n in args.many]
        measure.leave(args.output / "preparation-many.md", head, rows)
    if args.speechbrain:
        head = ["preparation", "CPU s per 1,000 files", "stock / this"]
        rows = against_stock(args)
        measure.leave(args.output / "preparation.md", head, rows)


def against_stock(args):
    """Rows: time per 1,000 files, of both in turn."""
    ours = measure.module(measure.ROOT / SCRIPT, "ours").prepare_voxceleb
    stock = measure.module(
        Path(args.speechbrain, SCRIPT), "stock"
    ).prepare_voxceleb
    with tempfile.TemporaryDirectory() as corpus:
        trials = generate(Path(corpus), args.files, seconds=8)
        options = {"splits": ["train", "dev"], "split_ratio": [90, 10]}

        def run(function, **options):
            with tempfile.TemporaryDirectory() as save:
                with contextlib.redirect_stderr(io.StringIO()):  # its bars
                    function(corpus, save, trials, **options)

        found = measure.in_turn(
            {
                "stock": lambda: run(stock, random_segment=True, **options),
                "ours, headers": lambda: run(ours, check_audio="headers"),
                "ours, full": lambda: run(ours, check_audio="full"),
            },
            args.repeats,
        )
    times = {n: 1000 * np.median(x.cpu) / args.files for n, x in found.items()}
    for name, time in times.items():
        yield [name, f"{time:.3f}", f"{times['stock'] / time:.1f}"]


def many_files(n_files):
    """The table's row: seconds, CPU seconds, peak and what it was before, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        trials = generate(Path(folder), n_files, seconds=1)
        prepare = measure.module(measure.ROOT / SCRIPT, "ours").prepare_voxceleb
        before = measure.peak_mib()
        _, took = measure.spent(prepare, folder, f"{folder}/save", trials)
        cells = *took, measure.peak_mib(), before
    return [f"{n_files:,}", *(f"{x:,.1f}" for x in cells)]


def generate(corpus, n_files, seconds):
    """Files for training, a thousand links to each that is written, and a
    trial list of two other speakers."""
    rng = np.random.default_rng(0)
    for i in range(n_files):
        if i % 1000 == 0:  # a file system has a limit to the links of one file
            source = corpus / f"{i}.wav"
            signal = 0.1 * rng.normal(size=seconds * SAMPLE_RATE)
            soundfile.write(source, signal, SAMPLE_RATE)
        speaker = SPEAKERS[i % len(SPEAKERS)]
        path = corpus / "wav" / speaker / f"v{i % 4}" / f"{i:07d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)
    for name in ("t0/v0", "t0/v1", "t1/v0"):
        path = corpus / "wav" / name / "1.wav"
        path.parent.mkdir(parents=True)
        os.link(source, path)
    (corpus / "meta").mkdir()
    trials = corpus / "trials.txt"
    trials.write_text("1 t0/v0/1.wav t0/v1/1.wav\n0 t0/v0/1.wav t1/v0/1.wav\n")
    return str(trials)


if __name__ == "__main__":
    main()
