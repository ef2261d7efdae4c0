#!/usr/bin/env python3
"""Time of VoxCeleb's preparation against SpeechBrain's own, per 1,000 files.

Both list the same generated files (8 s, 16 kHz, VoxCeleb layout, the files in
the page cache) in one run, in turn: SpeechBrain's recipe decodes each file,
ours reads headers and each file's end, or decodes all (``full``).

    python benchmarks/preparation.py results/benchmarks --speechbrain CHECKOUT

writes preparation.md there. The checkout is SpeechBrain's repository: the
recipe is not part of its package.
"""

import argparse
import contextlib
import importlib.util
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path("recipes") / "VoxCeleb" / "voxceleb_prepare.py"
# SpeechBrain's recipe looks for these by name.
SPEAKERS = ["id10001", "id00012", *(f"id{20000 + i}" for i in range(48))]
SECONDS, SAMPLE_RATE = 8, 16000


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--speechbrain", type=Path, required=True)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    ours = load(ROOT / SCRIPT, "ours").prepare_voxceleb
    stock = load(args.speechbrain / SCRIPT, "stock").prepare_voxceleb
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        trials = generate(corpus, args.files)

        def run_ours(save, check):
            ours(str(corpus), save, trials, check_audio=check)

        def run_stock(save):
            stock(
                str(corpus),
                save,
                trials,
                splits=["train", "dev"],
                split_ratio=[90, 10],
                random_segment=True,
            )

        contestants = {
            "stock": run_stock,
            "ours, headers": lambda save: run_ours(save, "headers"),
            "ours, full": lambda save: run_ours(save, "full"),
        }
        seconds = {name: [] for name in contestants}
        for _ in range(args.repeats + 1):
            for name, run in contestants.items():
                with tempfile.TemporaryDirectory() as save:
                    seconds[name].append(timed(run, save))
    # The first round warms up.
    medians = {n: statistics.median(s[1:]) for n, s in seconds.items()}
    lines = [
        "| preparation | s per 1,000 files | stock / this |",
        "|:--|--:|--:|",
    ]
    for name, median in medians.items():
        per_thousand = median * 1000 / args.files
        ratio = medians["stock"] / median
        lines.append(f"| {name} | {per_thousand:.3f} | {ratio:.1f} |")
    table = "\n".join(lines) + "\n"
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "preparation.md").write_text(table, encoding="utf-8")
    print(table)


def load(path, name):
    """A preparation script as a module; two have the same file name."""
    spec = importlib.util.spec_from_file_location(f"{name}_prepare", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generate(corpus, n_files):
    """Writes files for training, and a trial list of two other speakers."""
    rng = np.random.default_rng(0)
    signal = 0.1 * rng.normal(size=SECONDS * SAMPLE_RATE)
    (corpus / "meta").mkdir()
    for i in range(n_files):
        folder = corpus / "wav" / SPEAKERS[i % len(SPEAKERS)] / f"v{i % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i:05d}.wav", signal, SAMPLE_RATE)
    trials = corpus / "trials.txt"
    trials.write_text("1 t0/v0/1.wav t0/v1/1.wav\n0 t0/v0/1.wav t1/v0/1.wav\n")
    return str(trials)


def timed(run, save):
    """Seconds of one preparation into an empty folder."""
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        run(save)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
