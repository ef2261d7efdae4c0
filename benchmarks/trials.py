#!/usr/bin/env python3
"""Long trial lists: seconds and peak memory by stage.

    OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 \\
        python benchmarks/trials.py results/benchmarks --trials 1e6 1e7 1e8

Each list compares all of N enrolment with all of N test utterances (random
embeddings of 192 dimensions around 1,000 speakers), as a text file in a process
of its own: reading and checking it; scoring it with as-norm (a cohort of 6,000,
its top 300; --cohort 0 for cosines) and writing scores.txt; EER, minDCF, Cllr
and 200 resamples of the speakers. Leaves trials.md. The temporary folder needs
some 120 bytes a trial.
"""

import tempfile
from pathlib import Path

import measure
import numpy as np

from speechbrain_scl.evaluation import results, scoring
from speechbrain_scl.evaluation.trials import read_trials, write_scores

DIM, TOP_N = 192, 300
HEAD = ["trials", "reading, CPU s", "scoring, CPU s", "measuring, CPU s"]
HEAD += ["together, CPU s", "on the clock, s", "distinct scores", "peak, MiB"]
HEAD += ["of which before, MiB", "EER %"]


def main():
    """Measures list by list; the table is written after each."""
    args = measure.options(
        __doc__,
        trials=[1e6, 1e7, 1e8],
        speakers=1_000,
        cohort=(6_000, "0 for cosines"),
        resamples=(200, "of the speakers"),
        folder=(tempfile.gettempdir(), "for the lists"),
    )
    rows = []
    for n_trials in args.trials:
        n = round(n_trials**0.5)
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            write_list(Path(folder, "trials.txt"), n, args.speakers)
            rows.append(measure.alone(row, folder, n, args))
        measure.leave(args.output / "trials.md", HEAD, rows)


def write_list(path, n, n_speakers):
    """All pairs; utterance i of either side is of speaker i modulo S."""
    tests = [f"s{t % n_speakers:04d}/test/{t:05d}.wav" for t in range(n)]
    with open(path, "w", encoding="utf-8") as file:
        for e in range(n):
            enrol = f" s{e % n_speakers:04d}/enrol/{e:05d}.wav "
            same = set(tests[e % n_speakers :: n_speakers])
            file.writelines(f"{t in same:d}{enrol}{t}\n" for t in tests)


def row(folder, n, args):
    """Reads the list, scores and measures it."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(args.speakers, DIM))
    sides = [
        centres[np.arange(n) % args.speakers] + 2 * rng.normal(size=(n, DIM))
        for _ in range(2)
    ]
    sides.append(rng.normal(size=(args.cohort, DIM)))
    *sides, cohort = (scoring.unit(x).astype(np.float32) for x in sides)
    before = measure.peak_mib()
    listed, reading = measure.spent(read_trials, f"{folder}/trials.txt")

    def score():
        sides_of = *sides, listed.enrol_index, listed.test_index
        if args.cohort:
            how = cohort, "as-norm", TOP_N
            scores = scoring.normalized_scores(*how, *sides_of)
        else:
            scores = scoring.inner_products(*sides_of)
        scored = listed.with_scores(scores)
        write_scores(f"{folder}/scores.txt", scored)
        return scored

    trials, writing = measure.spent(score)
    how = {"n_resamples": args.resamples, "calibrated": True}
    (found, counts), judging = measure.spent(
        results.measure, trials, lambda name: name[:5], **how
    )
    clock, cpu = zip(reading, writing, judging)
    times = (f"{s:,.1f}" for s in (*cpu, sum(cpu), sum(clock)))
    whole = len(counts.scores), measure.peak_mib(), before
    sizes = (f"{x:,.0f}" for x in whole)
    return [f"{len(trials):,}", *times, *sizes, f"{100 * found['eer']:.3f}"]


if __name__ == "__main__":
    main()
