"""Scores to log-likelihood ratios, and to decisions."""

import dataclasses
import json
import math
import os
from numbers import Real

import numpy as np

from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import as_arrays, error_rates
from speechbrain_scl.files import write_json

# Logistic regression has no finite answer where a threshold separates the
# classes; this penalty is too weak to be seen elsewhere.
_PENALTY = 1e-6
_LEVELS = 40  # of each error curve, on either side of one half
_FEWEST_SPEAKERS = 5  # that say anything about others
_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a calibrated score says: natural log-likelihood ratio, the score
    from which on the speakers are the same, the error rates that the
    calibration's own pairs had there (or None), and whether a score can lead
    to either decision."""

    llr: float
    score_threshold: float
    same_speaker: bool
    miss: float | None
    false_alarm: float | None
    in_reach: bool


@dataclasses.dataclass(frozen=True)
class Calibration:
    """llr = scale * score + offset.

    Arguments
    ---------
    scale, offset : float
        Of the affine map to natural log-likelihood ratios.
    p_target : float
        The prior it was fitted for.
    n_trials : int
        How many trials it was fitted on.
    model : str or None
        The key of the model whose scores they were (``Encoder.key``).
    scores : str
        What was scored: ``cosine``, or the backend or normalisation.
    thresholds, miss, false_alarm : tuple of float
        The error rates of these trials at scores in ascending order.

    Raises
    ------
    UserError
        What no calibration has, such as a scale of zero.

    Example
    -------
    >>> calibration = Calibration(20.0, -8.0, 0.01, 1000)
    >>> calibration.decide(0.7).same_speaker
    True
    >>> calibration.decide(0.7, p_target=1e-9).in_reach
    False
    """

    scale: float
    offset: float
    p_target: float
    n_trials: int
    model: str | None = None
    scores: str = "cosine"
    thresholds: tuple = ()
    miss: tuple = ()
    false_alarm: tuple = ()

    def __post_init__(self):
        self.threshold(self.p_target)
        curves = ("thresholds", "miss", "false_alarm")
        allowed = {
            "scale": lambda x: _is_number(x) and x > 0,
            "offset": _is_number,
            "n_trials": lambda x: _is_number(x) and x > 0,
            "model": lambda x: x is None or isinstance(x, str),
            "scores": lambda x: isinstance(x, str),
            **dict.fromkeys(curves, _is_curve),
        }
        for name, is_allowed in allowed.items():
            if not is_allowed(getattr(self, name)):
                raise UserError(f"{name}={getattr(self, name)!r}")
        if len({len(getattr(self, name)) for name in curves}) > 1:
            raise UserError(f"thresholds={self.thresholds}, and other rates")

    def __call__(self, scores):
        """Natural log-likelihood ratios of scores of any shape."""
        return self.scale * np.asarray(scores) + self.offset

    def decide(self, score, p_target=0.5):
        """A ``Decision`` at a prior of the same speaker and unit costs."""
        threshold = self.threshold(p_target)
        at = (threshold - self.offset) / self.scale
        miss = false_alarm = None
        if self.thresholds:
            miss, false_alarm = (
                float(np.interp(at, self.thresholds, rates))
                for rates in (self.miss, self.false_alarm)
            )
        llr = float(self(score))
        in_reach = self.scores != "cosine" or -1 < at < 1
        return Decision(llr, at, llr >= threshold, miss, false_alarm, in_reach)

    @staticmethod
    def threshold(p_target):
        """The log-likelihood ratio at which both decisions cost the same."""
        if not (isinstance(p_target, Real) and 0 < p_target < 1):
            raise UserError(
                f"p_target={p_target!r}: the prior probability of the same "
                "speaker lies between 0 and 1"
            )
        return math.log((1 - p_target) / p_target)

    def save(self, path):
        """Writes it as JSON."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path, model=None):
        """Reads what ``save`` wrote; of cosines of the model with this key."""
        if not os.path.isfile(path):
            raise UserError(f"{path}: there is no such calibration")
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            found = cls(
                **{
                    key: tuple(value) if isinstance(value, list) else value
                    for key, value in content.items()
                }
            )
        except UserError as error:
            raise UserError(
                f"{path}: no calibration has {error}; fit it again"
            ) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not the calibration.json that a verification with "
                "--calibration leaves beside its metrics.json"
            ) from error
        if model is not None and found.model != model:
            raise UserError(
                f"{path}: it calibrates another model's scores; verify with "
                "this model and --calibration to get one for it"
            )
        if model is not None and found.scores != "cosine":
            raise UserError(
                f"{path}: it calibrates {found.scores} scores, not cosines; "
                "verify with score_norm=none and backend=cosine"
            )
        return found


def _is_number(value):
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_curve(values):
    return isinstance(values, tuple) and all(map(_is_number, values))


def fit_calibration(scores, labels, p_target=0.01, model=None, kind="cosine"):
    """Linear logistic regression of the labels on the scores.

    Minimises the cross-entropy in which targets weigh ``p_target`` together
    (Brummer and du Preez, 2006), so that the result is right about the
    operating point. ``model`` is the key of the model that made the scores,
    ``kind`` what they are.

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
        C=1 / (_PENALTY * len(scores)),
        solver="newton-cholesky",
        tol=1e-8,
        max_iter=1000,
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


def calibrate(scores, labels, speakers, p_target=0.5, model=None):
    """Fits a calibration to one's own pairs, and says how well it decides.

    The error rates are those of pairs whose speakers the calibration did not
    know: it is fitted anew without them, a fifth of the speakers for each side. The
    intervals count each speaker once (Clopper and Pearson 1934), as pairs of
    one speaker rise and fall together.

    Arguments
    ---------
    scores, labels : array
        [T], cosines of pairs of recordings, and whether the speaker is the same.
    speakers : array
        [2, T], names or numbers of the speakers of both sides; at least five.
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


def calibration_trials(speakers, n_max=200_000, seed=0):
    """All pairs of utterances of these speakers, of impostors at most ``n_max``
    drawn: their indices and whether the speakers are the same, [T] each."""
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
