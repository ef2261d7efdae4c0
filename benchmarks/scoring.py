#!/usr/bin/env python3
"""The verification engine against SpeechBrain's functions, in one run.

    python benchmarks/scoring.py results/benchmarks

On random embeddings, as many as VoxCeleb1-E and -H have: score normalisation,
EER and minDCF, one thread. SpeechBrain's scoring loop and EER are timed on a
part: the loop goes in proportion, the EER by a n + b n^2 through two sizes, as
it compares every score with every threshold. The loop is written out here, with
the same calls, as its recipe is no module. Leaves scoring.md.
"""

import measure
import numpy as np
import torch

from speechbrain.utils.metric_stats import EER
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.metrics import eer, min_dcf

DIM, TOP_N = 192, 300


def main():
    """Measures, and leaves the table."""
    args = measure.options(
        __doc__,
        trials=580_000,
        utterances=4_708,
        cohort=6_000,
        stock_trials=(200, "timed, of --trials"),
        stock_scores=(40_000, "likewise"),
        repeats=5,
    )
    torch.set_num_threads(1)
    head = ["task", "stock", "ours", "stock / ours", "ours / matrix products"]
    rows = [*score_rows(args), metric_row(args)]
    measure.leave(args.output / "scoring.md", head, rows)


def score_rows(args):
    """Scores with s-norm and adaptive s-norm."""
    rng = np.random.default_rng(0)
    vectors, cohort = (
        scoring.unit(rng.normal(size=(n, DIM)).astype(np.float32))
        for n in (args.utterances, args.cohort)
    )
    index = rng.integers(0, args.utterances, (2, args.trials))
    part = index[:, : args.stock_trials]

    def ours(top_n):
        scores = scoring.inner_products(vectors, vectors, *index)
        # All utterances are on both sides: one statistic serves each.
        mean, std = scoring.cohort_statistics(vectors, cohort, top_n)
        sides = ((mean[i], std[i]) for i in index)
        return scoring.normalize_scores(scores, *sides, "s-norm")

    def products():
        a, b, c = map(torch.from_numpy, (vectors, vectors, cohort))
        return a @ b.T, a @ c.T

    bound, _ = quickest(products, args.repeats)
    for name, top_n in (("s-norm", None), (f"as-norm, top {TOP_N}", TOP_N)):
        theirs, wanted = quickest(
            lambda: stock_scores(vectors, cohort, part, top_n), 2
        )
        mine, found = quickest(lambda: ours(top_n), args.repeats)
        if not np.allclose(found[: args.stock_trials], wanted, atol=1e-3):
            raise SystemExit(f"error: {name} differs from the stock scores")
        theirs *= args.trials / args.stock_trials
        yield [
            f"{args.trials:,} trials, {name}, cohort {args.cohort:,}",
            f"{theirs:,.0f} s (from {args.stock_trials} trials)",
            f"{mine:.2g} s",
            f"{theirs / mine:,.0f}",
            f"{mine / bound:.2f}",
        ]


def stock_scores(vectors, cohort, index, top_n):
    """The loop of SpeechBrain's recipe, trial by trial."""
    similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
    cohort = torch.from_numpy(cohort)[:, None]
    vectors = torch.from_numpy(vectors)[:, None]

    def normal(vector, score):
        scores = similarity(vector.repeat(len(cohort), 1, 1), cohort)
        if top_n:
            scores = torch.topk(scores, k=top_n, dim=0)[0]
        return (score - scores.mean(dim=0)) / scores.std(dim=0)

    found = []
    for enrol, test in vectors[index.T]:
        score = similarity(enrol, test)[0]
        both = normal(enrol, score) + normal(test, score)
        found.append((0.5 * both).item())
    return np.array(found)


def metric_row(args):
    """EER and minDCF. The stock minDCF is left out: at this size it asks for
    more memory than there is."""
    rng = np.random.default_rng(0)
    labels = rng.random(args.trials) < 0.5
    scores = rng.normal(size=args.trials) + 2 * labels

    def stock(n):
        kept, kind = torch.from_numpy(scores[:n]), labels[:n]
        return quickest(lambda: EER(kept[kind], kept[~kind]), 2)[0]

    n = args.stock_scores
    sizes = np.array([[n / 2, n**2 / 4], [n, n**2]])
    a, b = np.linalg.solve(sizes, [stock(n // 2), stock(n)])
    theirs = a * args.trials + b * args.trials**2
    mine, _ = quickest(
        lambda: (eer(scores, labels), min_dcf(scores, labels)), args.repeats
    )
    return [
        f"{args.trials:,} scores: EER (stock), EER and minDCF (ours)",
        f"{theirs:,.0f} s (from {n // 2:,} and {n:,} scores)",
        f"{mine:.2g} s",
        f"{theirs / mine:,.0f}",
        "-",
    ]


def quickest(function, repeats):
    """Processor seconds of the quickest call, and what it returns."""
    calls = [measure.spent(function) for _ in range(repeats)]
    return min(took.cpu for _, took in calls), calls[-1][0]


if __name__ == "__main__":
    main()
