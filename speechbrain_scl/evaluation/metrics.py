"""Error rates and costs of scored trials; their scores are sorted once."""

import dataclasses
import functools

import numpy as np
import torch

from speechbrain_scl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many trials of either kind have each score: all that an error rate
    depends on. The functions below take it in place of scores and labels."""

    scores: np.ndarray  # float64 [K], distinct, ascending
    targets: np.ndarray  # int64 [K], how many have it
    impostors: np.ndarray

    @classmethod
    def of(cls, scores, labels=None):
        """Counts trials of both kinds; what is counted already stays so."""
        if isinstance(scores, cls):
            return scores
        scores, labels = ascending(*as_arrays(scores, labels))
        n_targets = int(labels.sum())
        if n_targets in (0, len(labels)):
            raise UserError(
                f"{n_targets} target and {len(labels) - n_targets} impostor "
                "trials: at least one of each is needed"
            )
        first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
        targets = np.add.reduceat(labels, first, dtype=np.int64)
        trials = np.diff(first, append=len(scores))
        return cls(scores[first], targets, trials - targets)

    n_targets = property(lambda self: int(self.targets.sum()))
    n_impostors = property(lambda self: int(self.impostors.sum()))

    @functools.cached_property
    def rates(self):
        """Miss and false-alarm rates at every threshold, [K + 1] each: the share
        of targets below, of impostors at or above it. The thresholds, third,
        are the scores and the next number above them all."""
        # Equal scores are accepted or rejected together.
        miss = np.append(0, self.targets.cumsum()) / self.n_targets
        rejected = np.append(0, self.impostors.cumsum()) / self.n_impostors
        above = np.nextafter(self.scores[-1], np.inf)
        return miss, 1.0 - rejected, np.append(self.scores, above)

    @functools.cached_property
    def pooled(self):
        """Isotonic regression of the share of targets on the score, by pooling
        adjacent violators: ``x`` [K] and the ``blocks`` where it changes."""
        from scipy.optimize import isotonic_regression

        trials = self.targets + self.impostors
        return isotonic_regression(self.targets / trials, weights=trials)

    def reaching(self, threshold):
        """How many target and impostor trials reach a threshold."""
        first = np.searchsorted(self.scores, threshold)
        return tuple(
            int(kind[first:].sum()) for kind in (self.targets, self.impostors)
        )


def as_arrays(scores, labels):
    """Finite scores and labels of numpy or torch, as float64 and bool [T]."""
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
    """Scores and other columns of trials, [T] each, in the scores' order."""
    if (scores[1:] >= scores[:-1]).all():
        return scores, *columns
    whole = np.rint(scores * 1e6)
    if abs(whole).max() < 2**31 and (whole / 1e6 == scores).all():
        # As they are written: sorted along with their places, five times
        # quicker
        order = np.sort(whole.astype(np.int64) << 32 | np.arange(len(scores)))
        order &= 2**32 - 1
    else:
        order = np.argsort(scores)
    return tuple(column[order] for column in (scores, *columns))


def eer(scores, labels=None) -> tuple[float, float]:
    """Equal error rate: where miss and false-alarm rate cross.

    Between two neighbouring thresholds both rates are taken to change in a
    line, as it is published everywhere: where the ROC meets the diagonal. Above
    0.5, targets score lower than impostors.

    Arguments
    ---------
    scores, labels : array
        [T], higher for the same speaker, and true for target trials; numpy or
        torch.

    Returns
    -------
    rate : float
        In [0, 1].
    threshold : float
        The score at which the two rates are closest.

    Raises
    ------
    UserError
        Scores that are not finite, unequal lengths, or one class only.

    Example
    -------
    >>> rate, _ = eer([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 1, 0, 1])
    >>> round(rate, 4)
    0.3333
    """
    miss, false_alarm, thresholds = Counts.of(scores, labels).rates
    nearest = np.argmin(np.abs(miss - false_alarm))
    return crossing(miss, false_alarm), float(thresholds[nearest])


def crossing(miss, false_alarm):
    """Where a rising and a falling error rate meet, in a line between two
    thresholds."""
    # The first threshold with more misses than false alarms, and the one
    # before it; there is always one on each side.
    after = int(np.searchsorted(miss - false_alarm, 0.0, side="right"))
    (low, high), (above, below) = (
        rate[after - 1 : after + 1] for rate in (miss, false_alarm)
    )
    share = (above - low) / ((above - low) + (high - below))
    return float(low + share * (high - low))


def eer_rocch(scores, labels=None):
    """Equal error rate on the convex hull of the ROC, which a calibrated decision
    can reach (Brummer and de Villiers, "The BOSARIS toolkit", 2013). With few
    trials it lies well below ``eer``, and never above 0.5."""
    found = Counts.of(scores, labels)
    corners = found.pooled.blocks
    return crossing(*(rate[corners] for rate in found.rates[:2]))


def min_dcf(
    scores, labels=None, p_target=0.01, c_miss=1.0, c_fa=1.0
) -> tuple[float, float]:
    """Minimum of the normalised detection cost over all thresholds.

        DCF(t) = (c_miss p_target miss(t) + c_fa (1 - p_target) fa(t))
                 / min(c_miss p_target, c_fa (1 - p_target))

    (NIST speaker recognition evaluation plans.) 1 is the cost of deciding
    without listening.

    Arguments
    ---------
    scores, labels : array
        As for ``eer``, whose errors it raises.
    p_target : float
        Prior of a target, in (0, 1).
    c_miss, c_fa : float
        Cost of a miss and of a false alarm, above 0.

    Returns
    -------
    cost : float
        In [0, 1].
    threshold : float
        Where it is reached.

    Example
    -------
    >>> min_dcf([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    (0.5, 0.8)
    """
    miss, false_alarm, thresholds = Counts.of(scores, labels).rates
    cost = detection_cost(miss, false_alarm, p_target, c_miss, c_fa)
    best = np.argmin(cost)
    return float(cost[best]), float(thresholds[best])


def detection_cost(miss, false_alarm, p_target, c_miss=1.0, c_fa=1.0):
    """The normalised detection cost of ``min_dcf``, of given error rates."""
    if not (0 < p_target < 1 and c_miss > 0 and c_fa > 0):
        raise UserError(
            f"p_target={p_target}, c_miss={c_miss}, c_fa={c_fa}: a prior "
            "between 0 and 1 and costs above 0 are needed"
        )
    weight_miss, weight_fa = c_miss * p_target, c_fa * (1 - p_target)
    cost = weight_miss * miss + weight_fa * false_alarm
    return cost / min(weight_miss, weight_fa)


def act_dcf(llrs, labels=None, p_target=0.01, c_miss=1.0, c_fa=1.0):
    """Detection cost of accepting trials whose natural log-likelihood ratio
    reaches the Bayes threshold log(c_fa (1 - p_target)) - log(c_miss p_target).
    What lies above ``min_dcf`` is lost by calibration."""
    found = Counts.of(llrs, labels)
    threshold = np.log(c_fa * (1 - p_target)) - np.log(c_miss * p_target)
    targets, impostors = found.reaching(threshold)
    miss = 1 - targets / found.n_targets
    false_alarm = impostors / found.n_impostors
    return float(detection_cost(miss, false_alarm, p_target, c_miss, c_fa))


def cllr(llrs, labels=None):
    """Cost of natural log-likelihood ratios, over all operating points, in bits.

        Cllr = 1/2 (mean over targets of log2(1 + exp(-llr))
                    + mean over impostors of log2(1 + exp(llr)))

    (Brummer and du Preez, "Application-independent evaluation of speaker
    detection", 2006.) 0 is perfect; 1 is what llr = 0 for all costs."""
    found = Counts.of(llrs, labels)
    total = 0.0
    for sign, counts in ((-1, found.targets), (1, found.impostors)):
        # Infinite where the other class alone has such scores: no cost there.
        some = counts > 0
        costs = np.logaddexp(0, sign * found.scores[some])
        total += costs @ counts[some] / counts.sum()
    return float(total / (2 * np.log(2)))


def min_cllr(scores, labels=None):
    """Cllr after the best monotone calibration, found on the trials themselves;
    ``cllr`` minus this is lost by calibration."""
    found = Counts.of(scores, labels)
    posterior = found.pooled.x.clip(0.0, 1.0)
    prior = np.log(found.n_targets) - np.log(found.n_impostors)
    with np.errstate(divide="ignore"):
        llrs = np.log(posterior) - np.log1p(-posterior) - prior
    return cllr(dataclasses.replace(found, scores=llrs))
