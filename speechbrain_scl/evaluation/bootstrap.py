"""Confidence intervals by resampling speakers, not trials."""

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from speechbrain_scl.evaluation.metrics import (
    Counts,
    as_arrays,
    ascending,
    crossing,
    detection_cost,
)

_EXACT = 2**24  # whole numbers up to it are exact in single precision
_CELLS = 2**24  # of the tables of resamples that are weighed together


def bootstrap(
    scores,
    labels,
    enrol_speakers,
    test_speakers,
    n_resamples=200,
    p_target=0.01,
    seed=0,
):
    """EER and minDCF of resampled speakers, [n_resamples] each; [systems,
    n_resamples] of scores [systems, T], which are resampled alike (paired).

    Trials of one speaker rise and fall together, so intervals over trials are
    far too narrow. Each resample draws the speakers, numbers from 0 on, with
    replacement; a trial counts as often as both of its speakers were drawn (a
    target trial as often as its one). NaN without a target or an impostor.
    """
    several = np.ndim(scores) == 2
    systems = scores if several else [scores]
    n = int(max(np.max(enrol_speakers), np.max(test_speakers))) + 1
    # A trial's weight depends on its pair of speakers alone.
    pair = np.asarray(enrol_speakers, dtype=np.int64) * n + test_speakers
    pairs, n_pairs = None, n * n
    if n_pairs > len(pair):
        pairs, pair = np.unique(pair, return_inverse=True)
        n_pairs = len(pairs)
    pair = pair.astype(np.int32)
    rng = np.random.default_rng(seed)
    draws = [
        np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float32)
        for _ in range(n_resamples)
    ]
    found = np.full((2, len(systems), n_resamples), np.nan)
    for s, system in enumerate(systems):
        kinds = _by_place(system, labels, pair)
        at_once = max(1, _CELLS // (n_pairs + 3 * len(kinds[1][1])))
        room = np.empty(n_pairs * min(at_once, n_resamples), np.float32)
        for start in range(0, n_resamples, at_once):
            drawn = np.stack(draws[start : start + at_once], 1)
            weights = _weighed(kinds, _weights(drawn, pairs, room))
            for r, (targets, impostors) in enumerate(zip(*weights), start):
                if targets.any() and impostors.any():
                    miss, false_alarm = _error_rates(targets, impostors)
                    cost = detection_cost(miss, false_alarm, p_target)
                    found[:, s, r] = crossing(miss, false_alarm), cost.min()
    return tuple(found if several else found[:, 0])


def _weights(drawn, pairs, room):
    """How often each pair of speakers comes in resamples, [pairs, R], of how
    often each speaker was drawn, [speakers, R]; ``pairs`` None for all. The
    table takes the room given: to clear new memory would take as long."""
    n, r = drawn.shape
    if pairs is None:
        table = room[: n * n * r].reshape(n, n, r)
        np.multiply(drawn[:, None], drawn, out=table)
        np.einsum("iir->ir", table)[:] = drawn
        return table.reshape(-1, r)
    first, second = np.divmod(pairs, n)
    other = drawn[second]
    other[first == second] = 1
    return drawn[first] * other


def _by_place(scores, labels, pair):
    """Of targets and of impostors, the pairs of speakers in the order of their
    scores, and how many lie at or below each place.

    Place i is that of the targets of the i-th distinct score that targets have;
    between two of these the false alarms alone change, so that the thresholds
    at each one and right above it draw the whole ROC. Impostors below it are in
    place 2 i, of equal score in 2 i + 1."""
    scores, labels = as_arrays(scores, labels)
    scores, labels, pair = ascending(scores, labels, pair)
    counts = Counts.of(scores, labels)
    has_targets = counts.targets > 0
    place = 2 * (has_targets.cumsum() - has_targets) + has_targets
    targets = counts.targets[has_targets]
    impostors = np.bincount(place, counts.impostors, 2 * len(targets) + 1)
    return [
        (pair[labels], targets.cumsum()),
        (pair[~labels], impostors.astype(np.int64).cumsum()),
    ]


def _weighed(kinds, table):
    """Sums of the trials' weights, [R, places] of either kind, for a table
    float32 [pairs of speakers, R] of weights."""
    block = max(1, _EXACT // max(1, int(table.max())))
    table = torch.from_numpy(table)
    for pairs, ends in kinds:
        total = np.zeros((len(ends), table.shape[1]))
        for start in range(0, len(pairs), block):
            part = torch.from_numpy(pairs[start : start + block])
            low = np.searchsorted(ends, start, side="right")
            high = np.searchsorted(ends, start + len(part)) + 1
            starts = np.append(0, ends[low : high - 1] - start)
            starts = torch.from_numpy(starts.astype(np.int32))
            summed = embedding_bag(part, table, starts, mode="sum")
            total[low:high] += summed.numpy()
        yield np.ascontiguousarray(total.T)


def _error_rates(targets, impostors):
    """Miss and false-alarm rates of the weights at each place, [2 n + 2]."""
    # Below all, at the first target, above it, at the second one, ...
    miss = np.append(0.0, targets.cumsum()).repeat(2)
    rejected = np.append(0.0, impostors.cumsum())
    return miss / miss[-1], 1.0 - rejected / rejected[-1]
