#!/usr/bin/env python3
"""Time of VoxCeleb's preparation against SpeechBrain's own, per 1,000 files.

Both list the same generated files (8 s, 16 kHz, VoxCeleb layout, the files in
the page cache) in one run, in turn: SpeechBrain's recipe decodes each file,
ours reads headers and each file's end, or decodes all (``full``).

    python benchmarks/preparation.py results/benchmarks --speechbrain CHECKOUT

writes preparation.md there. The checkout is SpeechBrain's repository: the
recipe is not part of its package.

    python benchmarks/preparation.py results/benchmarks --many 10000 100000

measures ours alone on more files (hard links to some of 1 s), each in a process
of its own: seconds and peak memory; preparation-many.md.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
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
    parser.add_argument("--speechbrain", type=Path)
    parser.add_argument("--many", type=int, nargs="+", default=())
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.many:
        text = many_files(args.many)
        write(args.output / "preparation-many.md", text)
    if args.speechbrain:
        write(args.output / "preparation.md", against_stock(args))


def write(path, text):
    """Shows a table and leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text)


def against_stock(args):
    """Time per 1,000 files, of both in turn."""
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
    return "\n".join(lines) + "\n"


def many_files(sizes):
    """Seconds and peak by the number of files, and slopes."""
    lines = [
        "| files | s | CPU s | peak, MiB | of which before, MiB |",
        "|--:|--:|--:|--:|--:|",
    ]
    rows = []
    for n_files in sizes:
        with tempfile.TemporaryDirectory() as folder:
            generate_many(Path(folder), n_files)
            with ProcessPoolExecutor(1, get_context("spawn")) as one:
                rows.append(one.submit(many_run, folder).result())
        cells = [f"{n_files:,}", *(f"{x:,.1f}" for x in rows[-1])]
        lines.append(f"| {' | '.join(cells)} |")
    if len(sizes) > 1:
        slopes = np.subtract(rows[-1], rows[-2]) / (sizes[-1] - sizes[-2])
        cells = ["per million more", *(f"{x:,.0f}" for x in slopes * 1e6)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def many_run(folder):
    """Seconds, CPU seconds, peak and what it was before, MiB."""
    prepare = load(ROOT / SCRIPT, "ours").prepare_voxceleb
    trials = f"{folder}/trials.txt"
    before, cpu = peak_mib(), cpu_seconds()
    with tempfile.TemporaryDirectory() as save:
        seconds = timed(lambda save: prepare(folder, save, trials), save)
    return seconds, cpu_seconds() - cpu, peak_mib(), before


def cpu_seconds():
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


def peak_mib():
    """The process's own peak so far."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def load(path, name):
    """A recipe's script as a module; two recipes have the same file names.

    SpeechBrain's lazy modules look up who uses them, at each use: slowly and
    in vain if it were not registered.
    """
    spec = importlib.util.spec_from_file_location(f"{name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def generate(corpus, n_files):
    """Writes files for training, and a trial list of two other speakers."""
    rng = np.random.default_rng(0)
    signal = 0.1 * rng.normal(size=SECONDS * SAMPLE_RATE)
    (corpus / "meta").mkdir()
    for i in range(n_files):
        path = place(corpus, i)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, signal, SAMPLE_RATE)
    return write_trials(corpus)


def generate_many(corpus, n_files):
    """Links to files of 1 s."""
    rng = np.random.default_rng(0)
    signal = 0.1 * rng.normal(size=SAMPLE_RATE)
    for i in range(n_files):
        if i % 1000 == 0:  # a file system has a limit to the links of one file
            source = corpus / f"{i}.wav"
            soundfile.write(source, signal, SAMPLE_RATE)
        path = place(corpus, i)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, path)
    write_trials(corpus)


def place(corpus, i):
    """Of the i-th file in VoxCeleb's layout."""
    folder = corpus / "wav" / SPEAKERS[i % len(SPEAKERS)] / f"v{i % 4}"
    return folder / f"{i:07d}.wav"


def write_trials(corpus):
    """A list of two speakers that are not trained on."""
    for name in ("t0/v0", "t0/v1", "t1/v0"):
        path = corpus / "wav" / name / "1.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.ones(SAMPLE_RATE) / 10, SAMPLE_RATE)
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
