#!/usr/bin/env python3
"""Long trial lists: seconds and peak memory by stage.

    OMP_NUM_THREADS=1 python benchmarks/trials.py results/benchmarks \\
        --trials 1e6 1e7 1e8

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
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--trials", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    add("--speakers", type=int, default=1_000)
    add("--cohort", type=int, default=6_000, help="0 for cosines")
    add("--resamples", type=int, default=200, help="of the speakers")
    add("--folder", help="for the lists; the system's temporary folder")
    args = parser.parse_args()
    rows = []
    for wanted in args.trials:
        n = max(2, round(wanted**0.5))
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            write_list(Path(folder, "trials.txt"), n, args.speakers)
            rows.append(measure.alone(row, folder, n, args))
        text = measure.table(HEAD, rows)
        measure.leave(args.output / "trials.md", text)


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
    speakers = np.arange(n) % args.speakers
    centres = rng.normal(size=(args.speakers, DIM))
    sides = [
        scoring.unit(centres[speakers] + 2 * rng.normal(size=(n, DIM)))
        for _ in range(2)
    ]
    sides = [side.astype(np.float32) for side in sides]
    cohort = scoring.unit(rng.normal(size=(args.cohort, DIM)))
    before, scored = measure.peak_mib(), []

    def read():
        scored.append(read_trials(f"{folder}/trials.txt"))

    def score():
        trials = scored.pop()
        index = trials.enrol_index, trials.test_index
        if args.cohort:
            scores = scoring.normalized_scores(
                cohort.astype(np.float32), "as-norm", TOP_N, *sides, *index
            )
        else:
            scores = scoring.inner_products(*sides, *index)
        scored.append(trials.with_scores(scores))
        write_scores(f"{folder}/scores.txt", scored[0])

    def judge():
        options = {"n_resamples": args.resamples, "calibrated": True}
        scored.append(results.measure(scored[0], lambda n: n[:5], **options))

    stages = [measure.spent(stage) for stage in (read, score, judge)]
    clock, cpu = zip(*stages)
    trials, (found, counts) = scored
    times = (f"{s:,.1f}" for s in (*cpu, sum(cpu), sum(clock)))
    whole = (len(counts.scores), measure.peak_mib(), before)
    sizes = (f"{x:,.0f}" for x in whole)
    rate = f"{100 * found['eer']:.3f}"
    return [f"{len(trials):,}", *times, *sizes, rate]


if __name__ == "__main__":
    main()
