"""Error rates of scored trials, from the counts of their scores."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import isotonic_regression

from speechbrain_scl.errors import UserError


def error_rates(scores, labels):
    """Miss and false-alarm rates at every threshold.

    Arguments
    ---------
    scores : array
        [T], higher for the same speaker; numpy or torch.
    labels : array
        [T], true for target trials.

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
    found = counted(scores, labels)
    # Equal scores are accepted or rejected together.
    below_targets = np.append(0, found.targets.cumsum())
    below_impostors = np.append(0, found.impostors.cumsum())
    miss = below_targets / below_targets[-1]
    false_alarm = 1.0 - below_impostors / below_impostors[-1]
    above = np.nextafter(found.scores[-1], np.inf)
    return miss, false_alarm, np.append(found.scores, above)


class Counts(NamedTuple):
    """How many trials of either kind have which score.

    Arguments
    ---------
    scores : numpy.ndarray
        float64 [K], the distinct scores, ascending.
    targets, impostors : numpy.ndarray
        int64 [K], the trials of either kind that have them.
    """

    scores: np.ndarray
    targets: np.ndarray
    impostors: np.ndarray


def counted(scores, labels):
    """Counts trials that an error rate can be taken of.

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.

    Returns
    -------
    Counts

    Raises
    ------
    UserError
        Scores that are not finite, unequal lengths, or one class only.
    """
    scores, labels = as_arrays(scores, labels)
    n_targets = int(labels.sum())
    if n_targets in (0, len(labels)):
        raise UserError(
            f"{n_targets} target and {len(labels) - n_targets} impostor "
            "trials: at least one of each is needed"
        )
    distinct, counts = np.unique(scores, return_counts=True)
    targets = np.zeros_like(counts)
    some, of_them = np.unique(scores[labels], return_counts=True)
    targets[np.searchsorted(distinct, some)] = of_them
    return Counts(distinct, targets, counts - targets)


def as_arrays(scores, labels):
    """Scores and labels as arrays.

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.

    Returns
    -------
    scores, labels : numpy.ndarray
        float64 and bool, [T].

    Raises
    ------
    UserError
        Scores that are not finite, or unequal lengths.
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
    return scores, labels


def _as_array(values, dtype):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=dtype)


def eer(scores, labels):
    """Equal error rate: where miss and false-alarm rate cross.

    Between two neighbouring thresholds both rates are taken to change in a
    line, as it is published everywhere: the point at which the ROC of
    scikit-learn, say, meets the diagonal. Above 0.5, targets score lower than
    impostors.

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
    0.5
    >>> rate, _ = eer([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 1, 0, 1])
    >>> round(rate, 4)
    0.3333
    """
    miss, false_alarm, thresholds = error_rates(scores, labels)
    nearest = np.argmin(np.abs(miss - false_alarm))
    return crossing(miss, false_alarm), float(thresholds[nearest])


def crossing(miss, false_alarm):
    """Where two error rates are equal, in a line between thresholds.

    Arguments
    ---------
    miss, false_alarm : numpy.ndarray
        [K], at ascending thresholds: the first rises from 0 to 1, the second
        falls from 1 to 0.

    Returns
    -------
    float

    Example
    -------
    >>> miss, false_alarm = np.array([0.0, 0.1, 0.4]), np.array([1.0, 0.3, 0.2])
    >>> round(crossing(miss, false_alarm), 4)
    0.25
    """
    # The first threshold with more misses than false alarms, and the one
    # before it; there is always one on each side.
    after = int(np.searchsorted(miss - false_alarm, 0.0, side="right"))
    before = after - 1
    shorter = false_alarm[before] - miss[before]
    longer = miss[after] - false_alarm[after]
    share = shorter / (shorter + longer)
    return float(miss[before] + share * (miss[after] - miss[before]))


def eer_rocch(scores, labels):
    """Equal error rate on the convex hull of the ROC.

    The hull is what a calibrated decision can reach (Brummer and de Villiers,
    "The BOSARIS toolkit", 2013). With few trials it lies well below ``eer``,
    and never above 0.5.

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.

    Returns
    -------
    float
        In [0, 0.5].

    Raises
    ------
    UserError
        As for ``error_rates``.

    Example
    -------
    >>> eer_rocch([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.25
    """
    miss, false_alarm, _ = error_rates(scores, labels)
    return hull_eer(miss, false_alarm)


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
    # Ends of the edge that crosses miss = fa: one on or above the diagonal,
    # one below. The point that lies farthest below their line takes the place
    # of the end on its side, until none lies below.
    x, y = false_alarm, miss
    above, below = np.argmax(y), np.argmax(x)
    while True:
        down, right = y[above] - y[below], x[below] - x[above]
        height = down * x + right * y
        lowest = np.argmin(height)
        # Points on the line itself lie below it by a rounding error, and
        # would take turns forever.
        rounding = 1e-12 * (down + right)
        if height[lowest] >= min(height[above], height[below]) - rounding:
            t = (y[above] - x[above]) / (right + down)
            return float(x[above] + t * right)
        if y[lowest] >= x[lowest]:
            above = lowest
        else:
            below = lowest


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
    miss, false_alarm, thresholds = error_rates(scores, labels)
    cost = detection_cost(miss, false_alarm, p_target, c_miss, c_fa)
    best = np.argmin(cost)
    return float(cost[best]), float(thresholds[best])


def detection_cost(miss, false_alarm, p_target, c_miss=1.0, c_fa=1.0):
    """The normalised detection cost of ``min_dcf``, of given error rates.

    Arguments
    ---------
    miss, false_alarm : float or numpy.ndarray
        In [0, 1].
    p_target, c_miss, c_fa : float
        As for ``min_dcf``.

    Returns
    -------
    float or numpy.ndarray

    Raises
    ------
    UserError
        A prior or cost outside its range.
    """
    if not (0 < p_target < 1 and c_miss > 0 and c_fa > 0):
        raise UserError(
            f"p_target={p_target}, c_miss={c_miss}, c_fa={c_fa}: a prior "
            "between 0 and 1 and costs above 0 are needed"
        )
    weight_miss, weight_fa = c_miss * p_target, c_fa * (1 - p_target)
    cost = weight_miss * miss + weight_fa * false_alarm
    return cost / min(weight_miss, weight_fa)


def act_dcf(llrs, labels, p_target=0.01, c_miss=1.0, c_fa=1.0):
    """Detection cost of the decisions that calibrated scores lead to.

    A trial is accepted where its log-likelihood ratio exceeds the Bayes
    threshold log(c_fa (1 - p_target)) - log(c_miss p_target). What lies above
    ``min_dcf`` is lost by calibration.

    Arguments
    ---------
    llrs : array
        [T], natural log-likelihood ratios.
    labels : array
        [T], true for target trials.
    p_target, c_miss, c_fa : float
        As for ``min_dcf``.

    Returns
    -------
    float
        Normalised as ``min_dcf``; it can exceed 1.

    Raises
    ------
    UserError
        As for ``min_dcf``.

    Example
    -------
    >>> act_dcf([-5.0, 5.0], [0, 1], p_target=0.5)
    0.0
    """
    found = counted(llrs, labels)
    threshold = np.log(c_fa * (1 - p_target)) - np.log(c_miss * p_target)
    reached = found.scores >= threshold
    miss = 1 - found.targets[reached].sum() / found.targets.sum()
    false_alarm = found.impostors[reached].sum() / found.impostors.sum()
    return float(detection_cost(miss, false_alarm, p_target, c_miss, c_fa))


def cllr(llrs, labels):
    """Cost of the log-likelihood ratios, over all operating points.

        Cllr = 1/2 (mean over targets of log2(1 + exp(-llr))
                    + mean over impostors of log2(1 + exp(llr)))

    (Brummer and du Preez, "Application-independent evaluation of speaker
    detection", 2006.) 0 is perfect; 1 is what llr = 0 for all costs.

    Arguments
    ---------
    llrs : array
        [T], natural log-likelihood ratios.
    labels : array
        [T], true for target trials.

    Returns
    -------
    float
        Bits.

    Raises
    ------
    UserError
        As for ``error_rates``.

    Example
    -------
    >>> cllr([0.0, 0.0], [0, 1])
    1.0
    """
    found = counted(llrs, labels)
    return _cllr(found.scores, found)


def min_cllr(scores, labels):
    """Cllr after the best monotone calibration, found on the trials themselves.

    Isotonic regression (pool adjacent violators) makes log-likelihood ratios
    of the scores; ``cllr`` minus this is lost by calibration.

    Arguments
    ---------
    scores, labels : array
        As for ``error_rates``.

    Returns
    -------
    float
        Bits, in [0, 1].

    Raises
    ------
    UserError
        As for ``error_rates``.

    Example
    -------
    >>> min_cllr([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    0.0
    """
    found = counted(scores, labels)
    counts = found.targets + found.impostors
    posterior = isotonic_regression(found.targets / counts, weights=counts).x
    posterior = posterior.clip(0.0, 1.0)
    prior = np.log(found.targets.sum()) - np.log(found.impostors.sum())
    with np.errstate(divide="ignore"):
        llrs = np.log(posterior) - np.log1p(-posterior) - prior
    return _cllr(llrs, found)


def _cllr(llrs, found):
    """Of trials whose distinct scores have these likelihood ratios."""
    total = 0.0
    for sign, counts in ((-1, found.targets), (1, found.impostors)):
        # Infinite where the other class alone has such scores: no cost there.
        some = counts > 0
        costs = np.logaddexp(0, sign * llrs[some])
        total += costs @ counts[some] / counts.sum()
    return float(total / (2 * np.log(2)))
