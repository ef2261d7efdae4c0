"""Scores to log-likelihood ratios, and to decisions."""

import dataclasses
import json
import math
import os
from numbers import Real

import numpy as np

from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import Counts, as_arrays
from speechbrain_scl.files import write_json

# Logistic regression has no finite answer where a threshold separates the
# classes; this penalty is too weak to be seen elsewhere.
_PENALTY = 1e-6
_LEVELS = 40  # of each error curve, on either side of one half
_FEWEST_SPEAKERS = 5  # that say anything about others
_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Calibration:
    """llr = scale * (score + duration * log(seconds)) + offset, a natural
    log-likelihood ratio; seconds are the shorter recording's.

    It was fitted for the prior ``p_target`` on ``n_trials`` scores of the model
    with the key ``model`` (``Encoder.key``): cosines, or what ``scores`` names.
    ``miss`` and ``false_alarm`` are their error rates at ascending
    ``thresholds``, of scores with the share of the seconds. What no calibration
    has, such as a scale of zero, is refused.
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
    duration: float = 0.0

    def __post_init__(self):
        self.threshold(self.p_target)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (float, int):
                right = _are_numbers(value)
            else:
                right = isinstance(value, field.type)
            if field.type is tuple:
                right = right and _are_numbers(*value)
            if field.name in ("scale", "n_trials"):
                right = right and value > 0
            if not right:
                raise UserError(f"{field.name}={value!r}")
        if not len(self.thresholds) == len(self.miss) == len(self.false_alarm):
            raise UserError(f"thresholds={self.thresholds}, and other rates")

    def __call__(self, scores, seconds=math.nan):
        """Natural log-likelihood ratios of scores of any shape."""
        scores = np.asarray(scores) + self._share(seconds)
        return self.scale * scores + self.offset

    def _share(self, seconds):
        """What they add to the scores."""
        if not self.duration:
            return 0.0
        if not np.all(np.asarray(seconds) > 0):
            raise UserError(
                "the calibration goes by durations too, which stored "
                "embeddings do not have: give the recordings"
            )
        return self.duration * np.log(seconds)

    def operating_point(self, p_target=0.5, seconds=math.nan):
        """The score from which on the speakers are the same, at a prior of it and
        unit costs, and the error rates that the calibration's own pairs had
        there (None where it does not know them)."""
        at, rates = (self.threshold(p_target) - self.offset) / self.scale, ()
        if self.thresholds:
            rates = self.miss, self.false_alarm
        rates = [float(np.interp(at, self.thresholds, x)) for x in rates]
        return at - float(self._share(seconds)), *(rates or (None, None))

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
            curves = {
                k: tuple(v) for k, v in content.items() if isinstance(v, list)
            }
            found = cls(**{**content, **curves})
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


def _are_numbers(*values):
    return all(
        isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)
        for x in values
    )


def fit_calibration(
    scores, labels, p_target=0.01, model=None, kind="cosine", seconds=None
):
    """Linear logistic regression of the labels on the scores, [T] each, and
    where they are given on the logarithm of the shorter sides' seconds [T].

    Minimises the cross-entropy in which targets weigh ``p_target`` together
    (Brummer and du Preez, 2006), so that the result is right about the
    operating point. ``model`` and ``kind`` are what ``Calibration`` says of
    the scores."""
    # Takes a quarter of a second, and who only decides does not need it.
    from sklearn.linear_model import LogisticRegression

    log_odds = -Calibration.threshold(p_target)
    scores, labels = as_arrays(scores, labels)
    curves, duration = _error_curves(scores, labels), 0.0
    inputs = scores[:, None]
    if seconds is not None:
        inputs = np.stack([scores, np.log(seconds)], axis=1)
    spread = inputs.std(0)
    if not spread.all():
        what = "durations" if spread[0] else "scores"
        raise UserError(f"all calibration {what} are equal")
    share = labels.mean()
    # On a scale of its own, so that the penalty means the same everywhere.
    regression = LogisticRegression(
        C=1 / (_PENALTY * len(scores)),
        solver="newton-cholesky",
        tol=1e-8,
        max_iter=1000,
    ).fit(
        inputs / spread,
        labels,
        np.where(labels, p_target / share, (1 - p_target) / (1 - share)),
    )
    scale, *slope = (regression.coef_[0] / spread).tolist()
    if scale <= 0:
        raise UserError(
            f"{len(scores)} calibration trials: targets do not score higher "
            "than impostors, so there is nothing to calibrate"
        )
    offset = float(regression.intercept_[0]) - log_odds
    if slope:
        duration = slope[0] / scale
        curves = _error_curves(inputs @ [1.0, duration], labels)
    return Calibration(
        scale, offset, p_target, len(scores), model, kind, *curves, duration
    )


def _error_curves(scores, labels):
    """Thresholds, miss and false-alarm rates, thinned out evenly in the logarithm
    of each rate: where few trials are wrong, a line to the next per cent would
    say several times the rate."""
    miss, false_alarm, thresholds = Counts.of(scores, labels).rates
    levels = np.geomspace(1 / len(scores), 0.5, _LEVELS)
    levels = np.concatenate([[0.0], levels, 1 - levels, [1.0]])
    kept = np.append(
        np.searchsorted(miss, levels), np.searchsorted(-false_alarm, -levels)
    )
    # Both ends of each step
    kept = np.unique(np.append(kept, kept - 1).clip(0, len(thresholds) - 1))
    return (
        tuple(curve[kept].tolist()) for curve in (thresholds, miss, false_alarm)
    )


def calibrate(scores, labels, speakers, p_target=0.5, model=None):
    """Fits a calibration to one's own pairs, and says how well it decides.

    Of cosines [T], their labels [T] and the speakers of both sides [2, T]. The
    error rates are those of pairs whose speakers the calibration did not know:
    it is fitted anew without them, a fifth of the speakers for each side. The 95
    % intervals count each speaker once (Clopper and Pearson 1934), as pairs of
    one speaker rise and fall together. Returns the ``Calibration`` of all pairs,
    and a dict: the score that decides (``threshold``), error rates and counts.
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
    threshold, *_ = calibration.operating_point(p_target)
    remarks = []
    if len(names) < FEWEST_TEST_SPEAKERS:
        remarks.append(
            f"{len(names)} speakers: fewer than {FEWEST_TEST_SPEAKERS} say "
            "little about others"
        )
    if abs(threshold) >= 1:
        remarks.append(
            f"at p_target {p_target:g} the threshold is a cosine of "
            f"{threshold:.3f}, which no recordings have"
        )
    try:
        accepted = _held_out(scores, labels, speakers, len(names), p_target)
    except UserError:
        accepted = scores >= threshold
        remarks.append(
            "too few pairs to fit without a part of the speakers: these error "
            "rates are of the very pairs that the threshold was chosen on"
        )
    found = {"p_target": p_target, "threshold": threshold}
    for name, kind in (("miss", labels), ("false_alarm", ~labels)):
        found[name] = float((accepted != labels)[kind].mean())
        n = len(np.unique(speakers[:, kind]))
        found[f"{name}_ci"] = _interval(found[name], n)
    n_targets, n_speakers = int(labels.sum()), len(names)
    found.update(n_trials=len(labels), n_targets=n_targets)
    found.update(n_speakers=n_speakers, remarks=remarks)
    return calibration, found


def _held_out(scores, labels, speakers, n_speakers, p_target):
    """Which pairs are accepted by calibrations that know neither speaker."""
    order = np.random.default_rng(0).permutation(n_speakers)
    sides = np.sort(order[speakers] % _FOLDS, 0)
    accepted = np.empty(len(labels), dtype=bool)
    for fold in np.unique(sides, axis=1).T:
        rest = ~np.isin(sides, fold).any(0)
        fitted = fit_calibration(scores[rest], labels[rest], p_target)
        threshold, *_ = fitted.operating_point(p_target)
        chosen = (sides == fold[:, None]).all(0)
        accepted[chosen] = scores[chosen] >= threshold
    return accepted


def _interval(rate, n):
    """95 % bounds of an error rate of n speakers."""
    from scipy.stats import beta

    k = rate * n
    bounds = beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, n - k])
    return np.where(np.isnan(bounds), [0.0, 1.0], bounds).tolist()


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
    return first[kept], second[kept], labels[kept]
