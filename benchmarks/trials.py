#!/usr/bin/env python3
"""Long trial lists: seconds and peak memory by stage, and their slope.

    OMP_NUM_THREADS=1 python benchmarks/trials.py results/benchmarks \\
        --trials 1e6 1e7 1e8

Each list compares all of N enrolment with all of N test utterances (random
embeddings of 192 dimensions around 1,000 speakers), as a text file in an own
process: reading and checking it, scoring it with as-norm (a cohort of 6,000,
its top 300), scores.txt, EER, minDCF, Cllr and 200 resamples of the speakers.
trials.md holds the table, written after each list. The temporary folder needs
some 140 bytes a trial.
"""

import argparse
import functools
import re
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from speechbrain_scl.evaluation import report, scoring
from speechbrain_scl.evaluation.scored import score_list
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.files import written_aside

DIM, COHORT, TOP_N, RESAMPLES = 192, 6_000, 300, 200
STAGES = ("reading", "scoring", "measuring")


def main():
    """Measures list by list; the table is written after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder for trials.md")
    add("--trials", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    add("--speakers", type=int, default=1_000)
    add("--cohort", type=int, default=COHORT)
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
            rows.append(
                pool.apply(run, (folder, n, args.speakers, args.cohort))
            )
        text = table(rows)
        with written_aside(args.output / "trials.md") as file:
            file.write(text)
    print(text)


def table(rows):
    """Seconds and peaks, and what a million trials more take."""
    names = [*STAGES, "together"]
    lines = [
        f"| trials | {' | '.join(f'{name}, s' for name in names)} | peak "
        "before, MiB | peak, MiB | EER % |",
        "|" + "--:|" * (len(names) + 4),
    ]
    for row in rows:
        seconds = [row[name] for name in STAGES]
        cells = [f"{s:,.1f}" for s in (*seconds, sum(seconds))]
        cells += [f"{row['before']:,.0f}", f"{row['peak']:,.0f}"]
        cells.append(f"{100 * row['eer']:.3f}")
        lines.append(f"| {row['trials']:,} | {' | '.join(cells)} |")
    if len(rows) > 1:
        first, last = rows[-2:]
        more = (last["trials"] - first["trials"]) / 1e6
        slopes = [(last[name] - first[name]) / more for name in STAGES]
        cells = [f"{s:.3f}" for s in (*slopes, sum(slopes))]
        cells += ["-", f"{(last['peak'] - first['peak']) / more:.2f}", "-"]
        lines.append(f"| slope per million | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_list(path, n, n_speakers):
    """All pairs; utterance i of either side is of speaker i modulo S."""
    tests = [f"s{t % n_speakers:04d}/test/{t:05d}.wav" for t in range(n)]
    with open(path, "w", encoding="utf-8") as file:
        for e in range(n):
            enrol = f"s{e % n_speakers:04d}/enrol/{e:05d}.wav"
            file.writelines(
                f"{(e - t) % n_speakers == 0:d} {enrol} {test}\n"
                for t, test in enumerate(tests)
            )


def run(folder, n, n_speakers, n_cohort):
    """Reads the list, scores and measures it; in a process of its own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_speakers, DIM))
    sides = [
        scoring.unit(
            centres[np.arange(n) % n_speakers] + 2 * rng.normal(size=(n, DIM))
        ).astype(np.float32)
        for _ in range(2)
    ]
    cohort = scoring.unit(rng.normal(size=(n_cohort, DIM))).astype(np.float32)
    row = {"before": peak_mib()}

    start = time.perf_counter()
    trials = read_trials(f"{folder}/trials.txt", folder=folder)
    row["reading"] = time.perf_counter() - start

    start = time.perf_counter()
    top_n = min(TOP_N, n_cohort)
    products = functools.partial(
        scoring.inner_products, *sides, n_trials=len(trials)
    )
    statistics = [
        scoring.cohort_statistics(side, cohort, top_n) for side in sides
    ]

    def score(*index):
        of_trials = ([x[i] for x in s] for s, i in zip(statistics, index))
        return scoring.normalize_scores(products(*index), *of_trials, "as-norm")

    scored = score_list(trials, score, f"{folder}/scores.txt", folder=folder)
    row["scoring"] = time.perf_counter() - start

    start = time.perf_counter()
    found = report.measure(
        scored,
        lambda name: name[:5],
        n_resamples=RESAMPLES,
        calibrated=True,
    )
    row["measuring"] = time.perf_counter() - start
    return {
        **row,
        "trials": len(trials),
        "peak": peak_mib(),
        "eer": found["eer"],
    }


def peak_mib():
    """The process's own peak so far; getrusage's would be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


if __name__ == "__main__":
    main()
