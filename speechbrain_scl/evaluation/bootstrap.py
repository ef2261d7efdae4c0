"""Confidence intervals by resampling speakers, not trials."""

import numpy as np

from speechbrain_scl.evaluation.metrics import (
    as_arrays,
    counted,
    crossing,
    detection_cost,
)

_BLOCK = 2**17  # trials at a time
_WEIGHTS = 2**24  # of resamples that share a pass over the trials


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
    systems = scores if several else [scores]
    systems, labels = zip(*(as_arrays(s, labels) for s in systems))
    n_speakers, *speakers = _number(enrol_speakers, test_speakers)
    found = resample(
        systems,
        labels[0],
        *speakers,
        n_speakers,
        n_resamples,
        p_target,
        seed,
    )
    return tuple(found if several else found[:, 0])


def resample(
    systems,
    labels,
    enrol,
    test,
    n_speakers,
    n_resamples=200,
    p_target=0.01,
    seed=0,
):
    """As ``bootstrap``, of speakers that are numbered.

    Arguments
    ---------
    systems : list of numpy.ndarray
        float64 [T], the scores of each system.
    labels : numpy.ndarray
        bool [T].
    enrol, test : numpy.ndarray
        int32 [T], the speakers' numbers.
    n_speakers : int
        How many speakers there are.
    n_resamples, p_target, seed
        As for ``bootstrap``.

    Returns
    -------
    numpy.ndarray
        [2, systems, n_resamples], EER and minDCF.
    """
    grids = [_Grid(counted(scores, labels)) for scores in systems]
    rng = np.random.default_rng(seed)
    found = np.full((2, len(grids), n_resamples), np.nan)
    at_once = max(1, _WEIGHTS // sum(3 * grid.n + 1 for grid in grids))
    for start in range(0, n_resamples, at_once):
        numbers = range(start, min(start + at_once, n_resamples))
        drawn = [
            np.bincount(
                rng.integers(0, n_speakers, n_speakers), minlength=n_speakers
            )
            for _ in numbers
        ]
        weighed = _weigh(grids, systems, labels, enrol, test, drawn)
        for s, sums in enumerate(weighed):
            for r, (targets, impostors) in zip(numbers, sums):
                if targets.any() and impostors.any():
                    miss, false_alarm = _error_rates(targets, impostors)
                    cost = detection_cost(miss, false_alarm, p_target)
                    found[:, s, r] = crossing(miss, false_alarm), cost.min()
    return found


def _weigh(grids, systems, labels, enrol, test, drawn):
    """Of each system and draw of speakers: the weight of the targets at each
    of their scores, and of the impostors between them."""
    sums = [
        [(np.zeros(grid.n), np.zeros(2 * grid.n + 1)) for _ in drawn]
        for grid in grids
    ]
    for start in range(0, len(labels), _BLOCK):
        block = slice(start, start + _BLOCK)
        targets = labels[block]
        # A trial's weight depends on its pair of speakers alone.
        pairs, pair = np.unique(
            enrol[block].astype(np.int64) * len(drawn[0]) + test[block],
            return_inverse=True,
        )
        first, second = np.divmod(pairs, len(drawn[0]))
        pair = pair.astype(np.int32)
        of_targets, of_impostors = pair[targets], pair[~targets]
        places = [
            (
                grid.of_targets(scores[block][targets]),
                grid.of_impostors(scores[block][~targets]),
            )
            for grid, scores in zip(grids, systems)
        ]
        for r, times in enumerate(drawn):
            weights = times[first] * np.where(first == second, 1, times[second])
            weights = weights.astype(np.float64)
            of_kind = weights[of_targets], weights[of_impostors]
            for found, system in zip(places, sums):
                # Whole numbers: their sums are exact in any order.
                for at, weight, total in zip(found, of_kind, system[r]):
                    total += np.bincount(at, weight, len(total))
    return sums


class _Grid:
    """The distinct scores of the targets.

    Between two of them the false alarms alone change, so that the thresholds
    at each one and right above it draw the whole ROC.
    """

    def __init__(self, counts):
        self.scores = counts.scores[counts.targets > 0]
        self.n = len(self.scores)

    def of_targets(self, scores):
        """The place of each target, 0 to n - 1."""
        return np.searchsorted(self.scores, scores).astype(np.int32)

    def of_impostors(self, scores):
        """The place of each impostor, 0 to 2 n: one below target i is rejected
        from threshold i on (place 2 i), one of equal score right above it
        (place 2 i + 1)."""
        left = np.searchsorted(self.scores, scores).astype(np.int32)
        equal = self.scores[np.minimum(left, self.n - 1)] == scores
        return 2 * left + equal


def _error_rates(targets, impostors):
    """Miss and false-alarm rates of what ``_weigh`` returns, [2 n + 2]."""
    # Below all, at the first target, above it, at the second one, ...
    miss = np.append(0.0, targets.cumsum()).repeat(2)
    rejected = np.append(0.0, impostors.cumsum())
    return miss / miss[-1], 1.0 - rejected / rejected[-1]


def _number(enrol_speakers, test_speakers):
    """How many speakers there are, and each trial's two."""
    names, index = np.unique(
        np.concatenate([enrol_speakers, test_speakers]), return_inverse=True
    )
    return len(names), *np.split(index.astype(np.int32), 2)
