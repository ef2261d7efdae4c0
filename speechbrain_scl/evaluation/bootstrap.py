"""Confidence intervals by resampling speakers, not trials."""

import numpy as np

from speechbrain_scl.evaluation.metrics import (
    check_scores,
    crossing,
    detection_cost,
)


def bootstrap(
    scores,
    labels,
    enrol_speakers,
    test_speakers,
    n_resamples=200,
    p_target=0.01,
    seed=0,
):
    """EER and minDCF of resampled speakers.

    Trials of one speaker rise and fall together, so intervals over trials are
    far too narrow. Each resample draws the speakers with replacement; a trial
    counts as often as both of its speakers were drawn (a target trial as often
    as its one speaker).

    Arguments
    ---------
    scores : array
        [T], or [systems, T] to resample several systems alike (paired).
    labels : array
        [T], true for target trials.
    enrol_speakers, test_speakers : array
        [T], the speakers' numbers (or names: slower on millions of trials).
    n_resamples : int
        How many resamples.
    p_target : float
        Prior of the detection cost.
    seed : int
        Of the resampling.

    Returns
    -------
    rates, costs : numpy.ndarray
        EER and minDCF of each resample, [systems, n_resamples] (or
        [n_resamples]); take their percentiles. NaN where a resample has no
        target or no impostor.

    Raises
    ------
    UserError
        As for ``metrics.error_rates``.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> speakers = rng.integers(0, 9, (2, 400))
    >>> labels = speakers[0] == speakers[1]
    >>> scores = labels + rng.normal(size=400)
    >>> rates, costs = bootstrap(scores, labels, *speakers)
    >>> bool(0.1 < np.nanmedian(rates) < 0.6)
    True
    """
    several = np.ndim(scores) == 2
    systems = [_Sorted(s, labels) for s in (scores if several else [scores])]
    labels = np.asarray(labels, dtype=bool)
    n_speakers, enrol, test = _number(enrol_speakers, test_speakers)
    # A trial's weight depends on its pair of speakers alone.
    pairs, pair = np.unique(
        enrol.astype(np.int64) * n_speakers + test, return_inverse=True
    )
    pair = pair.astype(np.int32)
    of_targets, of_impostors = pair[labels], pair[~labels]
    first, second = pairs // n_speakers, pairs % n_speakers

    rng = np.random.default_rng(seed)
    found = np.full((2, len(systems), n_resamples), np.nan)
    for r in range(n_resamples):
        times = np.bincount(
            rng.integers(0, n_speakers, n_speakers), minlength=n_speakers
        )
        weights = times[first] * np.where(first == second, 1, times[second])
        weights = weights.astype(np.float64)
        targets, impostors = weights[of_targets], weights[of_impostors]
        if not (targets.any() and impostors.any()):
            continue
        for s, system in enumerate(systems):
            miss, false_alarm = system.error_rates(targets, impostors)
            found[0, s, r] = crossing(miss, false_alarm)
            cost = detection_cost(miss, false_alarm, p_target)
            found[1, s, r] = cost.min()
    return tuple(found if several else found[:, 0])


class _Sorted:
    """Scores, sorted once for the error rates of any weights.

    Between two targets the false alarms alone change, so that the thresholds
    at each target and right above it draw the whole ROC.
    """

    def __init__(self, scores, labels):
        scores, labels = check_scores(scores, labels)
        targets, self.of_target = np.unique(scores[labels], return_inverse=True)
        # An impostor below target i is rejected from threshold i on (place
        # 2 i), one of equal score right above it (place 2 i + 1).
        impostors = scores[~labels]
        left = np.searchsorted(targets, impostors, side="left")
        right = np.searchsorted(targets, impostors, side="right")
        self.of_impostor = (left + right).astype(np.int32)
        self.n = len(targets)

    def error_rates(self, targets, impostors):
        """Miss and false-alarm rates of weighted trials, [2 targets + 2]."""
        missed = np.bincount(self.of_target, targets, minlength=self.n)
        rejected = np.bincount(self.of_impostor, impostors, 2 * self.n + 1)
        # Below all, at the first target, above it, at the second one, ...
        miss = np.append(0.0, missed.cumsum()).repeat(2)
        rejected = np.append(0.0, rejected.cumsum())
        false_alarm = 1.0 - rejected / rejected[-1]
        return miss / miss[-1], false_alarm


def _number(enrol_speakers, test_speakers):
    """How many speakers there are, and each trial's two."""
    names, index = np.unique(
        np.concatenate([enrol_speakers, test_speakers]), return_inverse=True
    )
    return len(names), *np.split(index.astype(np.int32), 2)
