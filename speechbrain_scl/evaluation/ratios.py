"""How good log-likelihood ratios are: what calibration is judged by."""

import numpy as np
from scipy.optimize import isotonic_regression

from speechbrain_scl.evaluation.metrics import Counts, detection_cost


def act_dcf(llrs, labels=None, p_target=0.01, c_miss=1.0, c_fa=1.0):
    """Detection cost of the decisions that calibrated scores lead to.

    A trial is accepted where its log-likelihood ratio reaches the Bayes
    threshold log(c_fa (1 - p_target)) - log(c_miss p_target). What lies above
    ``min_dcf`` is lost by calibration.

    Arguments
    ---------
    llrs, labels : array
        As for ``error_rates``; natural log-likelihood ratios.
    p_target, c_miss, c_fa : float
        As for ``min_dcf``.

    Returns
    -------
    float
        Normalised as ``min_dcf``; it can exceed 1.

    Example
    -------
    >>> act_dcf([-5.0, 5.0], [0, 1], p_target=0.5)
    0.0
    """
    found = Counts.of(llrs, labels)
    threshold = np.log(c_fa * (1 - p_target)) - np.log(c_miss * p_target)
    targets, impostors = found.reaching(threshold)
    miss = 1 - targets / found.n_targets
    false_alarm = impostors / found.n_impostors
    return float(detection_cost(miss, false_alarm, p_target, c_miss, c_fa))


def cllr(llrs, labels=None):
    """Cost of the log-likelihood ratios, over all operating points.

        Cllr = 1/2 (mean over targets of log2(1 + exp(-llr))
                    + mean over impostors of log2(1 + exp(llr)))

    (Brummer and du Preez, "Application-independent evaluation of speaker
    detection", 2006.) 0 is perfect; 1 is what llr = 0 for all costs.

    Arguments
    ---------
    llrs, labels : array
        As for ``error_rates``; natural log-likelihood ratios.

    Returns
    -------
    float
        Bits.

    Example
    -------
    >>> cllr([0.0, 0.0], [0, 1])
    1.0
    """
    found = Counts.of(llrs, labels)
    return _cllr(found.scores, found)


def min_cllr(scores, labels=None):
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

    Example
    -------
    >>> min_cllr([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1])
    0.0
    """
    found = Counts.of(scores, labels)
    counts = found.targets + found.impostors
    posterior = isotonic_regression(found.targets / counts, weights=counts).x
    posterior = posterior.clip(0.0, 1.0)
    prior = np.log(found.n_targets) - np.log(found.n_impostors)
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
