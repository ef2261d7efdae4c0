"""Scores to log-likelihood ratios."""

import dataclasses
import json
import math
import os
from numbers import Real

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.files import write_json


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a calibrated score says.

    Arguments
    ---------
    llr : float
        The natural log-likelihood ratio.
    threshold, score_threshold : float
        The ratio and the score from which on the speakers are the same.
    same_speaker : bool
        The decision.
    miss, false_alarm : float or None
        The error rates that the calibration's own pairs had there.
    in_reach : bool
        Whether there is a score that leads to either decision.
    """

    llr: float
    threshold: float
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
        """Log-likelihood ratios of scores.

        Arguments
        ---------
        scores : numpy.ndarray
            Any shape.

        Returns
        -------
        numpy.ndarray
            Natural logarithm; accept where it reaches ``threshold(p_target)``.
        """
        return self.scale * np.asarray(scores) + self.offset

    def decide(self, score, p_target=0.5):
        """Same speaker or not, at unit costs of both errors.

        Arguments
        ---------
        score : float
            Of one trial.
        p_target : float
            The prior of the same speaker, in (0, 1).

        Returns
        -------
        Decision

        Example
        -------
        >>> calibration = Calibration(20.0, -8.0, 0.01, 1000)
        >>> calibration.decide(0.7).same_speaker
        True
        >>> calibration.decide(0.7, p_target=1e-9).in_reach
        False
        """
        threshold = self.threshold(p_target)
        at = (threshold - self.offset) / self.scale
        miss = false_alarm = None
        if self.thresholds:
            miss, false_alarm = (
                float(np.interp(at, self.thresholds, rates))
                for rates in (self.miss, self.false_alarm)
            )
        llr = float(self(score))
        return Decision(
            llr=llr,
            threshold=threshold,
            score_threshold=at,
            same_speaker=llr >= threshold,
            miss=miss,
            false_alarm=false_alarm,
            in_reach=self.scores != "cosine" or -1 < at < 1,
        )

    @staticmethod
    def threshold(p_target):
        """The log-likelihood ratio at which both decisions cost the same.

        Arguments
        ---------
        p_target : float
            The prior of the same speaker, in (0, 1).

        Returns
        -------
        float

        Raises
        ------
        UserError
            Another prior.
        """
        if not (isinstance(p_target, Real) and 0 < p_target < 1):
            raise UserError(
                f"p_target={p_target!r}: the prior probability of the same "
                "speaker lies between 0 and 1"
            )
        return math.log((1 - p_target) / p_target)

    def save(self, path):
        """Writes it as JSON.

        Arguments
        ---------
        path : str
            The file.
        """
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path, model=None):
        """Reads what ``save`` wrote.

        Arguments
        ---------
        path : str
            The file.
        model : str or None
            The key of the model whose cosines are to be calibrated.

        Returns
        -------
        Calibration

        Raises
        ------
        UserError
            No such file, one of another kind, or of another model's scores.
        """
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
