"""What the cosine of two voices says."""

import dataclasses
import math
from numbers import Real

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration

_FEW = 500  # training speakers; CN-Celeb 1 has some 800


@dataclasses.dataclass(frozen=True)
class Verification:
    """What two voices have in common; ``str()`` says it in words.

    Without a calibration there is no (natural) ``log_likelihood_ratio``;
    ``same_speaker`` is None without a threshold, a cosine, and where a recording
    has no speech. ``miss`` and ``false_alarm`` are the error rates of the
    calibration's own pairs at the threshold; ``warnings`` say what makes the
    answer doubtful.
    """

    cosine: float
    log_likelihood_ratio: float | None = None
    threshold: float | None = None
    same_speaker: bool | None = None
    miss: float | None = None
    false_alarm: float | None = None
    warnings: tuple = ()

    def __str__(self):
        said = f"cosine {self.cosine:.3f}"
        if self.threshold is not None:
            above = self.cosine >= self.threshold
            said += f" {'>=' if above else '<'} {self.threshold:.3f}"
        if self.log_likelihood_ratio is not None:
            said += f", log-likelihood ratio {self.log_likelihood_ratio:.2f}"
        if self.threshold is None:
            return f"{said}; no decision without a calibration or threshold"
        said += {
            True: ": same speaker",
            False: ": different speakers",
            None: ": no decision, as a recording has no speech",
        }[self.same_speaker]
        if self.miss is not None:
            said += (
                f" (at this threshold the calibration's own pairs had "
                f"{100 * self.miss:.1f} % misses and "
                f"{100 * self.false_alarm:.1f} % false alarms)"
            )
        return said


@dataclasses.dataclass(frozen=True)
class Identification:
    """Which enrolled voice a recording has: the nearest one's name, ``unknown``
    where it is below the threshold, None where nothing can be decided.
    ``candidates`` are name -> Verification, the nearest first."""

    speaker: str | None
    candidates: dict
    warnings: tuple = ()


@dataclasses.dataclass(frozen=True)
class Decider:
    """Decides by a threshold, else by a calibration at a prior of the same
    speaker (None: 0.5), where it has either.

    Example
    -------
    >>> print(Decider(Calibration(20.0, -8.0, 0.01, 1000))(0.7))
    cosine 0.700 >= 0.400, log-likelihood ratio 6.00: same speaker
    """

    calibration: Calibration | None = None
    threshold: float | None = None
    p_target: float | None = None

    def __post_init__(self):
        if self.p_target is not None:
            Calibration.threshold(self.p_target)  # refuses what is no prior
            if self.calibration is None or self.threshold is not None:
                raise UserError(
                    f"p_target={self.p_target}: a prior decides through a "
                    "calibration; give a calibration.json and no threshold"
                )
        if self.threshold is not None and not (
            isinstance(self.threshold, Real) and -1 <= self.threshold <= 1
        ):
            raise UserError(
                f"threshold={self.threshold}: a cosine, between -1 and 1"
            )

    def __call__(self, cosine, speech=True, warnings=(), seconds=math.nan):
        """Judges a cosine; without speech in both recordings nothing is
        decided. ``warnings`` are what is known to make the answer doubtful,
        ``seconds`` what the model took of the shorter recording."""
        cosine = float(np.clip(cosine, -1, 1))
        threshold, found = self.threshold, {}
        if self.calibration is not None:
            prior = 0.5 if self.p_target is None else self.p_target
            ratio = float(self.calibration(cosine, seconds))
            found["log_likelihood_ratio"] = ratio
            if threshold is None:
                threshold, found["miss"], found["false_alarm"] = (
                    self.calibration.operating_point(prior, seconds)
                )
                if self.calibration.scores == "cosine" and abs(threshold) >= 1:
                    warnings += (
                        f"out of reach: at p_target {prior:g} the threshold is "
                        f"a cosine of {threshold:.3f}, which no recordings have",
                    )
        if speech and threshold is not None:
            found["same_speaker"] = cosine >= threshold
        return Verification(
            cosine, threshold=threshold, warnings=warnings, **found
        )


def limits_of(training):
    """What a model's training says against its decisions."""
    speakers = training.get("speakers")
    if training.get("synthetic"):
        said = f"{speakers} synthetic voices: not for real speech"
    elif isinstance(speakers, int) and speakers < _FEW:
        said = f"{speakers} speakers: too few to know others apart"
    else:
        return ()
    return (f"the model was trained on {said}",)
