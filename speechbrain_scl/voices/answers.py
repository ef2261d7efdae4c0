"""What the cosine of voices says, for people and programs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Verification:
    """What two voices have in common; ``str()`` says it in words.

    Without a calibration there is no (natural) ``log_likelihood_ratio``;
    ``same_speaker`` is None without a threshold, and where a recording has no
    speech. ``miss`` and ``false_alarm`` are the error rates of the calibration's
    own pairs at the threshold; ``warnings`` say what makes it doubtful.
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
