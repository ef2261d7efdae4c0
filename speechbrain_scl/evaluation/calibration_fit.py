"""A calibration of pairs whose speakers are known."""

import numpy as np

from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.metrics import as_arrays, error_rates

# Logistic regression has no finite answer where a threshold separates the
# classes; this penalty is too weak to be seen elsewhere.
_PENALTY = 1e-6
_LEVELS = 40  # of each error curve, on either side of one half
_FEWEST_SPEAKERS = 5  # that say anything about others
_FOLDS = 10


def calibrate(scores, labels, speakers, p_target=0.5, model=None):
    """Fits a calibration to one's own pairs, and says how well it decides.

    The error rates are those of pairs whose speakers the calibration did not
    know: it is fitted anew without them, a tenth of the speakers at a time. The
    intervals count each speaker once (Clopper and Pearson 1934), as pairs of
    one speaker rise and fall together.

    Arguments
    ---------
    scores, labels : array
        [T], cosines of pairs of recordings, and whether the speaker is the same.
    speakers : array
        [2, T], names or numbers of the speakers of both sides.
    p_target : float
        Prior of the same speaker at which decisions are taken, in (0, 1).
    model : str or None
        The key of the model that made the scores.

    Returns
    -------
    calibration : Calibration
        Of all pairs.
    found : dict
        ``threshold`` (the score that decides), ``miss`` and ``false_alarm``
        with ``miss_ci`` and ``false_alarm_ci`` (95 %), ``p_target``,
        ``n_trials``, ``n_targets``, ``n_speakers``, and ``remarks``.

    Raises
    ------
    UserError
        Fewer than five speakers, and as for ``fit_calibration``.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> speakers = rng.integers(0, 30, (2, 900))
    >>> labels = speakers[0] == speakers[1]
    >>> scores = 0.5 * labels + 0.1 * rng.normal(size=900)
    >>> calibration, found = calibrate(scores, labels, speakers)
    >>> round(found["threshold"], 1), found["n_speakers"]
    (0.3, 30)
    """
    scores, labels = as_arrays(scores, labels)
    calibration = fit_calibration(scores, labels, p_target, model)
    names, speakers = np.unique(np.asarray(speakers), return_inverse=True)
    speakers = speakers.reshape(2, -1)
    if len(names) < _FEWEST_SPEAKERS:
        raise UserError(
            f"pairs of {len(names)} speakers: a threshold for others takes at "
            f"least {_FEWEST_SPEAKERS}, better 20"
        )
    threshold = calibration.decide(0.0, p_target).score_threshold
    remarks = []
    if len(names) < FEWEST_TEST_SPEAKERS:
        remarks.append(
            f"{len(names)} speakers: fewer than {FEWEST_TEST_SPEAKERS} say "
            "little about others"
        )
    if not calibration.decide(0.0, p_target).in_reach:
        remarks.append(
            f"at p_target {p_target:g} the threshold is a cosine of "
            f"{threshold:.3f}, which no recordings have"
        )
    accepted = _held_out(scores, labels, speakers, len(names), p_target)
    if accepted is None:
        accepted = scores >= threshold
        remarks.append(
            "too few pairs to fit without a part of the speakers: these error "
            "rates are of the very pairs that the threshold was chosen on"
        )
    found = {"p_target": p_target, "threshold": threshold}
    for name, kind in (("miss", labels), ("false_alarm", ~labels)):
        wrong = (accepted != labels)[kind]
        n = len(np.unique(speakers[:, kind]))
        found[name] = float(wrong.mean())
        found[f"{name}_ci"] = _interval(found[name], n)
    found.update(
        n_trials=len(labels),
        n_targets=int(labels.sum()),
        n_speakers=len(names),
        remarks=remarks,
    )
    return calibration, found


def _held_out(scores, labels, speakers, n_speakers, p_target):
    """Which pairs are accepted by calibrations that know neither speaker."""
    order = np.random.default_rng(0).permutation(n_speakers)
    first, second = np.sort(order[speakers] % min(_FOLDS, n_speakers), 0)
    accepted = np.empty(len(labels), dtype=bool)
    for a, b in set(zip(first.tolist(), second.tolist())):
        chosen = (first == a) & (second == b)
        rest = ~np.isin(first, (a, b)) & ~np.isin(second, (a, b))
        try:
            fitted = fit_calibration(scores[rest], labels[rest], p_target)
        except UserError:
            return None
        decision = fitted.decide(0.0, p_target)
        accepted[chosen] = scores[chosen] >= decision.score_threshold
    return accepted


def _interval(rate, n):
    """95 % bounds of an error rate of n speakers."""
    from scipy.stats import beta

    k = rate * n
    low = beta.ppf(0.025, k, n - k + 1) if k > 0 else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return [float(low), float(high)]


def fit_calibration(scores, labels, p_target=0.01, model=None, kind="cosine"):
    """Linear logistic regression of the labels on the scores.

    Minimises the cross-entropy in which targets weigh ``p_target`` together
    (Brummer and du Preez, 2006), so that the result is right about the
    operating point.

    Arguments
    ---------
    scores, labels : array
        [T], of trials that are not those to be judged.
    p_target : float
        Prior of a target, in (0, 1).
    model : str or None
        The key of the model that made the scores.
    kind : str
        What was scored, ``cosine`` or another.

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        Scores that are not finite or one class only; scores that do not rise
        from impostors to targets.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(20_000) % 2 == 0
    >>> x = rng.normal(size=20_000) + np.where(labels, 1, -1)
    >>> calibration = fit_calibration(x, labels, p_target=0.5)
    >>> round(calibration.scale, 1), abs(round(calibration.offset, 1))
    (2.0, 0.0)
    """
    # Takes a quarter of a second, and who only decides does not need it.
    from sklearn.linear_model import LogisticRegression

    log_odds = -Calibration.threshold(p_target)
    scores, labels = as_arrays(scores, labels)
    curves = _error_curves(scores, labels)
    spread = scores.std()
    if spread == 0:
        raise UserError("all calibration scores are equal")
    share = labels.mean()
    # On a scale of its own, so that the penalty means the same everywhere.
    regression = LogisticRegression(
        C=1 / (_PENALTY * len(scores)), tol=1e-8, max_iter=1000
    ).fit(
        scores[:, None] / spread,
        labels,
        np.where(labels, p_target / share, (1 - p_target) / (1 - share)),
    )
    scale = float(regression.coef_[0, 0] / spread)
    if scale <= 0:
        raise UserError(
            f"{len(scores)} calibration trials: targets do not score higher "
            "than impostors, so there is nothing to calibrate"
        )
    offset = float(regression.intercept_[0]) - log_odds
    return Calibration(
        scale, offset, p_target, len(scores), model, kind, *curves
    )


def _error_curves(scores, labels):
    """Thresholds, miss and false-alarm rates, thinned out.

    Evenly in the logarithm of each rate: where few trials are wrong, a line
    to the next per cent would say several times the rate.
    """
    miss, false_alarm, thresholds = error_rates(scores, labels)
    levels = np.geomspace(1 / len(scores), 0.5, _LEVELS)
    levels = np.concatenate([[0.0], levels, 1 - levels, [1.0]])
    kept = np.append(
        np.searchsorted(miss, levels),
        np.searchsorted(-false_alarm, -levels),
    )
    # Both ends of each step
    kept = np.unique(np.append(kept, kept - 1).clip(0, len(thresholds) - 1))
    return (
        tuple(curve[kept].tolist()) for curve in (thresholds, miss, false_alarm)
    )


def calibration_trials(speakers, n_max=200_000, seed=0):
    """Pairs of utterances of held-out speakers.

    Arguments
    ---------
    speakers : list
        The speaker of each utterance.
    n_max : int
        Draw as many impostor pairs where there are more (all target pairs
        stay).
    seed : int
        Of the draw.

    Returns
    -------
    first, second : numpy.ndarray
        [T], the utterances of each pair.
    labels : numpy.ndarray
        bool [T], the speakers are the same.

    Example
    -------
    >>> first, second, labels = calibration_trials(["ann", "ann", "bob"])
    >>> first, second, labels
    (array([0, 0, 1]), array([1, 2, 2]), array([ True, False, False]))
    """
    _, numbers = np.unique(speakers, return_inverse=True)
    first, second = np.triu_indices(len(numbers), 1)
    labels = numbers[first] == numbers[second]
    impostors = np.flatnonzero(~labels)
    if len(impostors) > n_max:
        rng = np.random.default_rng(seed)
        impostors = rng.choice(impostors, n_max, replace=False)
        kept = np.sort(np.append(np.flatnonzero(labels), impostors))
        first, second, labels = first[kept], second[kept], labels[kept]
    return first, second, labels
