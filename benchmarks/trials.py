#!/usr/bin/env python3
"""Long trial lists: seconds and peak memory by stage, and their slope.

    OMP_NUM_THREADS=1 python benchmarks/trials.py results/benchmarks \\
        --trials 1e6 1e7 1e8

Each list compares all of N enrolment with all of N test utterances (random
embeddings of 192 dimensions around 1,000 speakers), as a text file in an own
process: reading and checking it; scoring it with as-norm (a cohort of 6,000,
its top 300; --cohort 0 for cosines) and writing scores.txt; EER, minDCF, Cllr
and 200 resamples of the speakers. trials.md holds the table, written after
each list. The temporary folder needs some 120 bytes a trial.
"""

import argparse
import re
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.results import measure
from speechbrain_scl.evaluation.trials import read_trials, write_scores
from speechbrain_scl.files import atomic_write

DIM, TOP_N = 192, 300
STAGES = ("reading", "scoring", "measuring")


def main():
    """Measures list by list; the table is written after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder for trials.md")
    add("--trials", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    add("--speakers", type=int, default=1_000)
    add("--cohort", type=int, default=6_000, help="0 for cosines")
    add("--resamples", type=int, default=200, help="of the speakers")
    add("--folder", help="for the lists; the system's temporary folder")
    args = parser.parse_args()
    rows = []
    for wanted in args.trials:
        n = max(2, round(wanted**0.5))
        with (
            tempfile.TemporaryDirectory(dir=args.folder) as folder,
            get_context("spawn").Pool(1) as pool,
        ):
            write_list(Path(folder, "trials.txt"), n, args.speakers)
            rows.append(pool.apply(run, (folder, n, args)))
        text = table(rows)
        with atomic_write(args.output / "trials.md") as file:
            file.write(text)
    print(text)


def table(rows):
    """Seconds of the CPU by stage, and what a million trials more take."""
    names = [f"{name}, CPU s" for name in (*STAGES, "together")]
    lines = [
        f"| trials | {' | '.join(names)} | on the clock, s | distinct scores "
        "| peak, MiB | of which before, MiB | EER % |",
        "|" + "--:|" * (len(names) + 6),
    ]
    for row in rows:
        clock, cpu = row["seconds"].T
        cells = [f"{s:,.1f}" for s in (*cpu, cpu.sum(), clock.sum())]
        cells += [f"{row[name]:,.0f}" for name in ("values", "peak", "before")]
        cells.append(f"{100 * row['eer']:.3f}")
        lines.append(f"| {row['trials']:,} | {' | '.join(cells)} |")
    if len(rows) > 1:
        first, last = rows[-2:]
        more = (last["trials"] - first["trials"]) / 1e6
        clock, cpu = (last["seconds"] - first["seconds"]).T / more
        cells = [f"{s:.3f}" for s in (*cpu, cpu.sum(), clock.sum())]
        cells += ["-", f"{(last['peak'] - first['peak']) / more:.2f}", "-", "-"]
        lines.append(f"| per million more | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_list(path, n, n_speakers):
    """All pairs; utterance i of either side is of speaker i modulo S."""
    tests = [f"s{t % n_speakers:04d}/test/{t:05d}.wav" for t in range(n)]
    with open(path, "w", encoding="utf-8") as file:
        for e in range(n):
            enrol = f" s{e % n_speakers:04d}/enrol/{e:05d}.wav "
            same = set(tests[e % n_speakers :: n_speakers])
            file.write(
                "".join([f"{test in same:d}{enrol}{test}\n" for test in tests])
            )


def run(folder, n, args):
    """Reads the list, scores and measures it; in a process of its own."""
    rng = np.random.default_rng(0)
    speakers = np.arange(n) % args.speakers
    centres = rng.normal(size=(args.speakers, DIM))
    sides = [
        scoring.unit(centres[speakers] + 2 * rng.normal(size=(n, DIM)))
        for _ in range(2)
    ]
    sides = [side.astype(np.float32) for side in sides]
    cohort = rng.normal(size=(args.cohort, DIM)).astype(np.float32)
    before = peak_mib()
    times = [(time.perf_counter(), time.process_time())]

    def lap():
        times.append((time.perf_counter(), time.process_time()))

    trials = read_trials(f"{folder}/trials.txt")
    lap()
    index = trials.enrol_index, trials.test_index
    if args.cohort:
        scores = scoring.normalized_scores(
            scoring.unit(cohort), "as-norm", TOP_N, *sides, *index
        )
    else:
        scores = scoring.inner_products(*sides, *index)
    trials = trials.with_scores(scores)
    del scores
    write_scores(f"{folder}/scores.txt", trials)
    lap()
    found, counts = measure(
        trials,
        lambda name: name[:5],
        n_resamples=args.resamples,
        calibrated=True,
    )
    lap()
    return {
        "trials": len(trials),
        "seconds": np.diff(times, axis=0),  # [stages, clock and CPU]
        "values": len(counts.scores),
        "before": before,
        "peak": peak_mib(),
        "eer": found["eer"],
    }


def peak_mib():
    """The process's own peak so far; getrusage's would be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main()
