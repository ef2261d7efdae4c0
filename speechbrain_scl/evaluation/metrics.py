"""Error rates and costs of scored trials; their scores are sorted once."""

import dataclasses
import functools

import numpy as np
import torch

from speechbrain_scl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many trials of either kind have each score: all that an error rate
    depends on. The functions below take it in place of scores and labels.

    Arguments
    ---------
    scores : numpy.ndarray
        float64 [K], the distinct scores, ascending.
    targets, impostors : numpy.ndarray
        int64 [K], the trials of either kind that have them.

    Example
    -------
    >>> counts = Counts.of([0.1, 0.9, 0.1], [0, 1, 1])
    >>> counts.scores, counts.targets, counts.impostors
    (array([0.1, 0.9]), array([1, 1]), array([1, 0]))
    """

    scores: np.ndarray
    targets: np.ndarray
    impostors: np.ndarray

    @classmethod
    def of(cls, scores, labels=None):
        """Counts trials.

        Arguments
        ---------
        scores : array or Counts
            [T], numpy or torch; what is counted already stays as it is.
        labels : array or None
            [T], true for target trials.

        Returns
        -------
        Counts

        Raises
        ------
        UserError
            Scores that are not finite, unequal lengths, or one class only.
        """
        if isinstance(scores, cls):
            return scores
        scores, labels = ascending(*as_arrays(scores, labels))
        n_targets = int(labels.sum())
        if n_targets in (0, len(labels)):
            raise UserError(
                f"{n_targets} target and {len(labels) - n_targets} impostor "
                "trials: at least one of each is needed"
            )
        first = np.flatnonzero(np.diff(scores, prepend=-np.inf))
        targets = np.add.reduceat(labels, first, dtype=np.int64)
        trials = np.diff(first, append=len(scores))
        return cls(scores[first], targets, trials - targets)

    @functools.cached_property
    def n_targets(self):
        """How many target trials there are."""
        return int(self.targets.sum())

    @functools.cached_property
    def n_impostors(self):
        """How many impostor trials there are."""
        return int(self.impostors.sum())

    @functools.cached_property
    def rates(self):
        """What ``error_rates`` returns."""
        # Equal scores are accepted or rejected together.
        miss = np.append(0, self.targets.cumsum()) / self.n_targets
        rejected = np.append(0, self.impostors.cumsum()) / self.n_impostors
        above = np.nextafter(self.scores[-1], np.inf)
        return miss, 1.0 - rejected, np.append(self.scores, above)

    def reaching(self, threshold):
        """How many target and impostor trials reach a threshold.

        Arguments
        ---------
        threshold : float
            A score.

        Returns
        -------
        tuple of int
        """
        first = np.searchsorted(self.scores, threshold)
        return tuple(
            int(kind[first:].sum()) for kind in (self.targets, self.impostors)
        )


def as_arrays(scores, labels):
    """Scores and labels as arrays.

    Arguments
    ---------
    scores, labels : array
        [T], numpy or torch.

    Returns
    -------
    scores, labels : numpy.ndarray
        float64 and bool, [T].

    Raises
    ------
    UserError
        Scores that are not finite, or unequal lengths.
    """
    scores, labels = (
        x.detach().cpu().double().numpy() if isinstance(x, torch.Tensor) else x
        for x in (scores, labels)
    )
    scores = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(labels, dtype=bool)
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


def ascending(scores, *columns):
    """Trials in the order of their scores, as they are where that is theirs.

    Arguments
    ---------
    scores : numpy.ndarray
        [T].
    *columns : numpy.ndarray
        [T], what else is known of the trials.

    Returns
    -------
    tuple of numpy.ndarray
        The scores and the columns.
    """
    if (scores[1:] >= scores[:-1]).all():
        return scores, *columns
    order = np.argsort(scores)
    return tuple(column[order] for column in (scores, *columns))


def error_rates(scores, labels=None):
    """Miss and false-alarm rates at every threshold.

    Arguments
    ---------
    scores : array or Counts
        [T], higher for the same speaker; numpy or torch.
    labels : array or None
        [T], true for target trials; none with Counts.

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
    return Counts.of(scores, labels).rates


def eer(scores, labels=None):
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


def eer_rocch(miss, false_alarm):
    """Equal error rate on the convex hull of the ROC.

    The hull is what a calibrated decision can reach (Brummer and de Villiers,
    "The BOSARIS toolkit", 2013). With few trials it lies well below ``eer``,
    and never above 0.5.

    Arguments
    ---------
    miss, false_alarm : numpy.ndarray
        As ``error_rates`` gives them.

    Returns
    -------
    float
        In [0, 0.5].

    Example
    -------
    >>> miss, false_alarm, _ = error_rates([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    >>> eer_rocch(miss, false_alarm)
    0.25
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


def min_dcf(scores, labels=None, p_target=0.01, c_miss=1.0, c_fa=1.0):
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
