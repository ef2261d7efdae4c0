#!/usr/bin/env python3
"""The verification engine against SpeechBrain's functions, in one run.

On synthetic embeddings of the sizes of VoxCeleb1-E/H and CN-Celeb.E: scores
with score normalisation, EER and minDCF, and the whole of CN-Celeb.E's
3,484,292 trials.

    python benchmarks/scoring.py results/benchmarks

writes scoring.md there. SpeechBrain's scoring loop and EER are timed on a part
and extrapolated to the whole: the loop in proportion, the EER by a n + b n^2
through two sizes, as it compares every score with every threshold. The loop is
written out here, with the same calls, as its recipe is no module. One thread,
or --threads.
"""

import argparse
import re
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from speechbrain.utils.metric_stats import EER
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.metrics import eer, min_dcf
from speechbrain_scl.evaluation.results import measure
from speechbrain_scl.evaluation.trials import read_trials, write_scores
from speechbrain_scl.files import atomic_write

DIM, TOP_N = 192, 300


def main():
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("output", type=Path)
    add("--trials", type=int, default=580_000)
    add("--utterances", type=int, default=4_708)
    add("--cohort", type=int, default=6_000)
    add("--stock-trials", type=int, default=200, help="timed, of --trials")
    add("--stock-scores", type=int, default=40_000, help="likewise")
    add("--models", type=int, default=196, help="of the CN-Celeb part")
    add("--tests", type=int, default=17_777, help="likewise")
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [*score_rows(args), *metric_rows(args)]
    table = [
        "| task | stock | ours | stock / ours | ours / matrix products |",
        "|---|--:|--:|--:|--:|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        cnceleb(args),
    ]
    text = "\n".join(table) + "\n"
    print(text)
    with atomic_write(args.output / "scoring.md") as file:
        file.write(text)


def score_rows(args):
    """Scores with s-norm and adaptive s-norm."""
    rng = np.random.default_rng(0)
    vectors, cohort = (
        scoring.unit(rng.normal(size=(n, DIM)).astype(np.float32))
        for n in (args.utterances, args.cohort)
    )
    index = rng.integers(0, args.utterances, (2, args.trials))

    def ours(top_n):
        scores = scoring.inner_products(vectors, vectors, *index)
        # All utterances are on both sides: one statistic serves each.
        mean, std = scoring.cohort_statistics(vectors, cohort, top_n)
        sides = ((mean[i], std[i]) for i in index)
        return scoring.normalize_scores(scores, *sides, "s-norm")

    def products():
        a, b, c = map(torch.from_numpy, (vectors, vectors, cohort))
        return a @ b.T, a @ c.T

    part = index[:, : args.stock_trials]
    bound = best(products, args.repeats)
    for name, top_n in (("s-norm", None), (f"as-norm, top {TOP_N}", TOP_N)):
        wanted = stock_scores(vectors, cohort, part, top_n)
        found = ours(top_n)[: args.stock_trials]
        if not np.allclose(found, wanted, atol=1e-3):
            raise SystemExit(f"error: {name} differs from the stock scores")
        whole = args.trials / args.stock_trials
        stock = whole * best(
            lambda k=top_n: stock_scores(vectors, cohort, part, k), 2
        )
        mine = best(lambda k=top_n: ours(k), args.repeats)
        yield (
            f"{args.trials:,} trials, {name}, cohort {args.cohort:,}",
            f"{stock:,.0f} s (from {args.stock_trials} trials)",
            spell(mine),
            f"{stock / mine:,.0f}",
            f"{mine / bound:.2f}",
        )


def stock_scores(vectors, cohort, index, top_n):
    """The loop of SpeechBrain's recipe, trial by trial."""
    similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
    cohort = torch.from_numpy(cohort)[:, None]
    vectors = torch.from_numpy(vectors)[:, None]

    def statistics_of(vector):
        scores = similarity(vector.repeat(len(cohort), 1, 1), cohort)
        if top_n:
            scores = torch.topk(scores, k=top_n, dim=0)[0]
        return scores.mean(dim=0), scores.std(dim=0)

    found = []
    for enrol, test in vectors[index.T]:
        mean_e, std_e = statistics_of(enrol)
        mean_t, std_t = statistics_of(test)
        score = similarity(enrol, test)[0]
        z, t = (score - mean_e) / std_e, (score - mean_t) / std_t
        found.append((0.5 * (z + t)).item())
    return np.array(found)


def metric_rows(args):
    """EER and minDCF. The stock minDCF is left out: at this size it asks for
    more memory than there is."""
    rng = np.random.default_rng(0)
    labels = rng.random(args.trials) < 0.5
    scores = rng.normal(size=args.trials) + 2 * labels

    def stock(n):
        kept, kind = torch.from_numpy(scores[:n]), labels[:n]
        return best(lambda: EER(kept[kind], kept[~kind]), 2)

    def ours():
        return eer(scores, labels), min_dcf(scores, labels)

    n = args.stock_scores
    sizes = np.array([[n / 2, n**2 / 4], [n, n**2]])
    a, b = np.linalg.solve(sizes, [stock(n // 2), stock(n)])
    theirs = a * args.trials + b * args.trials**2
    mine = best(ours, args.repeats)
    yield (
        f"{args.trials:,} scores: EER (stock), EER and minDCF (ours)",
        f"{theirs:,.0f} s (from {n // 2:,} and {n:,} scores)",
        spell(mine),
        f"{theirs / mine:,.0f}",
        "-",
    )


def cnceleb(args):
    """All of CN-Celeb.E's trials, in a process of its own for its peak."""
    with get_context("spawn").Pool(1) as pool:
        n, seconds, peak, before = pool.apply(
            cnceleb_run, (args.models, args.tests)
        )
    spent = ", ".join(f"{name} {spell(s)}" for name, s in seconds.items())
    return (
        f"CN-Celeb.E's size, {args.models} models x {args.tests:,} utterances "
        f"= {n:,} trials: {spent}; together {spell(sum(seconds.values()))}, "
        f"peak {peak:.0f} MiB, of which {before:.0f} MiB for the libraries."
    )


def cnceleb_run(n_models, n_tests):
    """Reads the list, scores, measures with 200 resamples."""
    torch.set_num_threads(1)
    before = peak_mib()
    rng = np.random.default_rng(0)
    speakers = rng.integers(0, n_models, n_tests)
    centres = rng.normal(size=(n_models, DIM)).astype(np.float32)
    noise = rng.normal(size=(n_tests, DIM)).astype(np.float32)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/trials.lst"
        with open(path, "w") as file:
            for m in range(n_models):
                file.writelines(
                    f"id{m:05d}-enroll test/id{s:05d}-song-{t:05d}.wav "
                    f"{int(s == m)}\n"
                    for t, s in enumerate(speakers)
                )
        start = time.perf_counter()
        trials = read_trials(path)
        seconds["reading"] = time.perf_counter() - start
    start = time.perf_counter()
    sides = centres, centres[speakers] + 4 * noise
    scores = scoring.inner_products(
        *map(scoring.unit, sides), trials.enrol_index, trials.test_index
    )
    trials = trials.with_scores(scores)
    with tempfile.TemporaryDirectory() as folder:
        write_scores(f"{folder}/scores.txt", trials)
    seconds["scoring and writing"] = time.perf_counter() - start
    start = time.perf_counter()
    measure(trials, lambda name: name.split("/")[-1][:7])
    seconds["measuring with 200 resamples"] = time.perf_counter() - start
    return len(trials), seconds, peak_mib(), before


def peak_mib():
    """The process's own peak so far; getrusage's would be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def best(function, repeats):
    """Seconds of the quickest call: the machine is shared."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def spell(seconds):
    """With a unit."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


if __name__ == "__main__":
    main()
