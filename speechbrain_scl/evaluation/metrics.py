"""Error rates of scored trials, by sorting once."""

import numpy as np
import torch

from speechbrain_scl.errors import UserError


def error_rates(scores, labels, weights=None):
    """Miss and false-alarm rates at every threshold.

    Arguments
    ---------
    scores : array
        [T], higher for the same speaker; numpy or torch.
    labels : array
        [T], true for target trials.
    weights : array or None
        [T], how often each trial counts.

    Returns
    -------
    miss, false_alarm : numpy.ndarray
        [K + 1] at the K distinct scores and above them all: the share of
        targets below the threshold, of impostors at or above it.
    thresholds : numpy.ndarray
        [K + 1], ascending; the last is the next number above all scores.

    Raises
    ------
    UserError
        Scores that are not finite, unequal lengths, or one class only.

    Example
    -------
    >>> error_rates([0.1, 0.9], [0, 1])
    (array([0., 0., 1.]), array([1., 0., 0.]), array([0.1, 0.9, 0.9]))
    """
    scores, labels = _as_array(scores, float), _as_array(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise UserError(
            f"{scores.shape} scores for {labels.shape} labels: both must be "
            "flat and equally long"
        )
    if not np.isfinite(scores).all():
        raise UserError(
            f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN "
            f"or inf, the first is number {np.argmin(np.isfinite(scores))}"
        )
    weights = np.ones_like(scores) if weights is None else _as_array(weights)
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    targets = np.where(labels, weights, 0.0)[order]
    impostors = np.where(labels, 0.0, weights)[order]
    n_targets, n_impostors = targets.sum(), impostors.sum()
    if not (n_targets > 0 and n_impostors > 0):
        raise UserError(
            f"{int(labels.sum())} target and {int((~labels).sum())} impostor "
            "trials: at least one of each is needed"
        )
    # Equal scores are accepted or rejected together.
    first = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    below_targets = np.append(0.0, targets.cumsum())
    below_impostors = np.append(0.0, impostors.cumsum())
    at = np.append(first, len(scores))
    miss = below_targets[at] / n_targets
    false_alarm = 1.0 - below_impostors[at] / n_impostors
    false_alarm[-1] = 0.0
    above = np.nextafter(scores[-1], np.inf)
    return miss, false_alarm, np.append(scores[first], above)


def eer(scores, labels):
    """Equal error rate, on the convex hull of the ROC.

    The hull is what a calibrated decision can reach; on it the rates cross
    exactly, whatever the number of trials (Brummer and de Villiers, "The
    BOSARIS toolkit", 2013: ROCCH-EER).

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.

    Returns
    -------
    rate : float
        In [0, 1].
    threshold : float
        The score at which the two rates are closest.

    Raises
    ------
    UserError
        As for ``error_rates``.

    Example
    -------
    >>> eer([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])[0]
    0.25
    """
    miss, false_alarm, thresholds = error_rates(scores, labels)
    nearest = np.argmin(np.abs(miss - false_alarm))
    return hull_eer(miss, false_alarm), float(thresholds[nearest])


def hull_eer(miss, false_alarm):
    """Where the lower convex hull of (false alarm, miss) has equal rates.

    Arguments
    ---------
    miss, false_alarm : numpy.ndarray
        As ``error_rates`` gives them.

    Returns
    -------
    float
    """
    # Every hull point lies below every line through it that the others lie
    # above: max over slopes c of min over points of c miss + (1 - c) fa. The
    # best slope belongs to the edge that crosses miss = fa, so walk the hull.
    hull = []
    for point in _corners(false_alarm[::-1], miss[::-1]):
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    for (x0, y0), (x1, y1) in zip(hull, hull[1:]):
        if y1 <= x1:
            # On the edge: x0 + t (x1 - x0) = y0 + t (y1 - y0)
            t = (y0 - x0) / ((x1 - x0) + (y0 - y1))
            return float(x0 + t * (x1 - x0))
    return float(hull[-1][0])


def _corners(x, y):
    """The points of a staircase at which it turns towards the origin."""
    # From upper left to lower right: keep a point if it is the lowest at its
    # x and the leftmost at its y.
    keep = np.ones(len(x), dtype=bool)
    keep[:-1] &= x[:-1] != x[1:]
    keep[1:] &= (y[1:] != y[:-1]) | (np.arange(1, len(y)) == len(y) - 1)
    keep[0] = keep[-1] = True
    return list(zip(x[keep].tolist(), y[keep].tolist()))


def _turns_right(a, b, c):
    """Whether b lies on or above the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (c[0] - a[0]) * (b[1] - a[1])


def min_dcf(scores, labels, p_target=0.01, c_miss=1.0, c_fa=1.0):
    """Minimum of the normalised detection cost over all thresholds.

        DCF(t) = (c_miss p_target miss(t) + c_fa (1 - p_target) fa(t))
                 / min(c_miss p_target, c_fa (1 - p_target))

    (NIST speaker recognition evaluation plans.) 1 is the cost of deciding
    without listening.

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.
    p_target : float
        Prior of a target, in (0, 1).
    c_miss, c_fa : float
        Cost of a miss and of a false alarm.

    Returns
    -------
    cost : float
        In [0, 1].
    threshold : float
        Where it is reached.

    Raises
    ------
    UserError
        As for ``error_rates``, or a prior or cost outside its range.

    Example
    -------
    >>> min_dcf([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    (0.5, 0.8)
    """
    if not (0 < p_target < 1 and c_miss > 0 and c_fa > 0):
        raise UserError(
            f"p_target={p_target}, c_miss={c_miss}, c_fa={c_fa}: a prior "
            "between 0 and 1 and costs above 0 are needed"
        )
    miss, false_alarm, thresholds = error_rates(scores, labels)
    cost = c_miss * p_target * miss + c_fa * (1 - p_target) * false_alarm
    best = np.argmin(cost)
    default = min(c_miss * p_target, c_fa * (1 - p_target))
    return float(cost[best] / default), float(thresholds[best])


def bootstrap_eer(
    scores, labels, enrol_speakers, test_speakers, n_resamples=200, seed=0
):
    """Confidence interval of the EER, resampling speakers and not trials.

    Trials of one speaker rise and fall together, so intervals over trials are
    far too narrow. Each resample draws the speakers with replacement; a trial
    counts as often as both of its speakers were drawn (a target trial as often
    as its one speaker).

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``; ``scores`` may be [systems, T] to resample
        several systems alike (paired).
    enrol_speakers, test_speakers : array
        [T], the speakers' names or numbers.
    n_resamples : int
        How many resamples.
    seed : int
        Of the resampling.

    Returns
    -------
    numpy.ndarray
        The EER of each resample, [systems, n_resamples] (or [n_resamples]);
        take its percentiles. Resamples without targets or impostors are NaN.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> speakers = rng.integers(0, 9, (2, 400))
    >>> labels = speakers[0] == speakers[1]
    >>> rates = bootstrap_eer(labels + rng.normal(size=400), labels, *speakers)
    >>> bool(0.1 < np.nanmedian(rates) < 0.6)
    True
    """
    scores = np.atleast_2d(_as_array(scores, float))
    labels = _as_array(labels, bool)
    both = np.concatenate([enrol_speakers, test_speakers])
    names, index = np.unique(both, return_inverse=True)
    enrol, test = np.split(index, 2)
    rng = np.random.default_rng(seed)
    rates = np.full((len(scores), n_resamples), np.nan)
    for r in range(n_resamples):
        times = np.bincount(
            rng.integers(0, len(names), len(names)), minlength=len(names)
        )
        weights = times[enrol] * np.where(enrol == test, 1, times[test])
        if weights[labels].sum() == 0 or weights[~labels].sum() == 0:
            continue
        drawn = weights > 0
        for s, system in enumerate(scores):
            miss, false_alarm, _ = error_rates(
                system[drawn], labels[drawn], weights[drawn].astype(float)
            )
            rates[s, r] = hull_eer(miss, false_alarm)
    return rates[0] if len(scores) == 1 else rates


def _as_array(values, dtype=float):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=dtype)
