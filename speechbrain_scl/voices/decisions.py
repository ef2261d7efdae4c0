"""From the cosine of two voices to what it says."""

import dataclasses
from numbers import Real

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration


@dataclasses.dataclass(frozen=True)
class Verification:
    """What two voices have in common; ``str()`` says it in words.

    Arguments
    ---------
    cosine : float
        Of both embeddings.
    log_likelihood_ratio : float or None
        Natural logarithm; None without a calibration.
    threshold : float or None
        The cosine from which on the speakers are taken to be the same.
    same_speaker : bool or None
        None without a threshold, and where a recording has no speech.
    miss, false_alarm : float or None
        The error rates that the calibration's own pairs had at the threshold.
    warnings : tuple of str
        What makes the answer doubtful.
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
    """Which enrolled voice a recording has.

    Arguments
    ---------
    speaker : str or None
        The nearest voice's name, ``unknown`` where it is below the threshold,
        None where nothing can be decided.
    candidates : dict
        Name -> Verification, the nearest voice first.
    warnings : tuple of str
        What makes the answer doubtful.
    """

    speaker: str | None
    candidates: dict
    warnings: tuple = ()


class Judge:
    """Decides by a threshold or a calibration, where it has either.

    Arguments
    ---------
    calibration : Calibration or None
        Of the cosines that are judged.
    threshold : float or None
        A cosine that decides instead of the calibration.
    p_target : float or None
        The prior of the same speaker, at equal costs of both errors, for
        decisions by the calibration; None takes 0.5.

    Raises
    ------
    UserError
        A threshold or prior that cannot be used.

    Example
    -------
    >>> print(Judge(threshold=0.6)(0.5))
    cosine 0.500 < 0.600: different speakers
    >>> print(Judge(Calibration(20.0, -8.0, 0.01, 1000))(0.7))
    cosine 0.700 >= 0.400, log-likelihood ratio 6.00: same speaker
    """

    def __init__(self, calibration=None, threshold=None, p_target=None):
        if p_target is not None:
            Calibration.threshold(p_target)  # refuses what is no prior
            if calibration is None or threshold is not None:
                raise UserError(
                    f"p_target={p_target}: a prior decides through a "
                    "calibration; give a calibration.json and no threshold"
                )
        if threshold is not None and not (
            isinstance(threshold, Real) and -1 <= threshold <= 1
        ):
            raise UserError(
                f"threshold={threshold}: a cosine, between -1 and 1"
            )
        self._calibration = calibration
        self._threshold = threshold
        self._p_target = 0.5 if p_target is None else p_target

    @property
    def decides(self):
        """Whether there is a calibration or threshold."""
        return self._calibration is not None or self._threshold is not None

    def __call__(self, cosine, heard=True, warnings=()):
        """Judges a cosine.

        Arguments
        ---------
        cosine : float
            Of two embeddings.
        heard : bool
            Whether both recordings have speech; nothing is decided otherwise.
        warnings : tuple of str
            What is known to make the answer doubtful.

        Returns
        -------
        Verification
        """
        cosine = float(np.clip(cosine, -1, 1))
        decision = None
        if self._calibration is not None:
            decision = self._calibration.decide(cosine, self._p_target)
        ratio = decision.llr if decision else None
        if self._threshold is not None:
            same = bool(cosine >= self._threshold)
            return Verification(
                cosine,
                ratio,
                self._threshold,
                same if heard else None,
                warnings=warnings,
            )
        if decision is None:
            return Verification(cosine, warnings=warnings)
        if not decision.in_reach:
            warnings += (
                f"out of reach: at p_target {self._p_target:g} the threshold "
                f"is a cosine of {decision.score_threshold:.3f}, which no "
                "recordings have",
            )
        return Verification(
            cosine,
            ratio,
            decision.score_threshold,
            decision.same_speaker if heard else None,
            decision.miss,
            decision.false_alarm,
            warnings,
        )
