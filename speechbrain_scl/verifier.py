"""Who speaks? One trained encoder, and recordings from anywhere."""

import contextlib
import math
import os
import tempfile
import threading
from numbers import Real

import numpy as np

from speechbrain.utils.distributed import infer_device
from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.voices import enrolled
from speechbrain_scl.voices.answers import Identification, Verification
from speechbrain_scl.voices.hearing import Heard, hear

logger = get_logger(__name__)

_FEW = 500  # training speakers; CN-Celeb 1 has some 800


class SpeakerVerifier:
    """Compares, enrols and identifies speakers.

    A recording is a path, a file open for binary reading, or (samples, rate),
    with samples a NumPy array or tensor of [time], [channels, time] or [time,
    channels]; of any rate and number of channels. What ``listen`` returned
    takes the place of a recording everywhere. One verifier may be used from any
    number of threads.

    Arguments
    ---------
    encoder : callable
        Waveforms [batch, time] to embeddings [batch, D], with a
        ``sample_rate`` in Hz and a ``key`` that changes with the model.
    calibration : Calibration or None
        Of this model's cosines.
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
    >>> import torch
    >>> def encoder(waveforms):  # as load() gets one from a folder
    ...     return torch.stack([waveforms.std(1), waveforms.mean(1)], 1)
    >>> encoder.sample_rate, encoder.key = 16000, "toy"
    >>> verifier = SpeakerVerifier(encoder, threshold=0.7)
    >>> noise = np.random.default_rng(0).normal(size=32000).astype("float32")
    >>> result = verifier.verify((noise, 16000), (noise[:8000], 8000))
    >>> print(result)
    cosine 1.000 >= 0.700: no decision, as a recording has no speech
    >>> result.warnings
    ('the array: no speech in its 2.0 s', 'the array: no speech in its 1.0 s')
    """

    progress = False  # whether a terminal shows that of long recordings

    def __init__(
        self,
        encoder,
        calibration: Calibration | None = None,
        threshold: float | None = None,
        p_target: float | None = None,
    ):
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
        self._calibration, self._threshold = calibration, threshold
        self._prior = p_target or 0.5
        self._encoder = encoder
        self._of_model = _limits_of(getattr(encoder, "training", {}))
        self._voices = {}  # replaced, never changed: others may be reading
        self._lock = threading.RLock()
        self.decides = not (calibration is None and threshold is None)
        # What a calibration or store of this model names it by
        self.key = encoder.key

    @classmethod
    def load(
        cls,
        model: str | os.PathLike,
        device: str | None = None,
        calibration: str | os.PathLike | Calibration | None = None,
        threshold: float | None = None,
        p_target: float | None = None,
        trust: bool = False,
    ) -> "SpeakerVerifier":
        """A verifier with a trained encoder.

        Arguments
        ---------
        model : str or path
            The ``inference`` folder of a training run, a hub repository, or a
            short name such as ecapa-voxceleb (``evaluation.encoder.KNOWN``).
        device : str or None
            Such as cpu or cuda; None takes the best there is.
        calibration : Calibration, str, path or None
            Of this model's cosines, or its calibration.json.
        threshold, p_target : float or None
            As for the class.
        trust : bool
            Whether the model may name, and so call, more than parts of
            SpeechBrain, torch and this package.

        Raises
        ------
        UserError
            No such model, device or calibration.
        """
        with tempfile.TemporaryDirectory() as folder:
            encoder = load_encoder(
                os.fspath(model), folder, device or infer_device(), trust
            )
        if isinstance(calibration, str | os.PathLike):
            calibration = Calibration.load(calibration, model=encoder.key)
        return cls(encoder, calibration, threshold, p_target)

    def listen(self, recording, needs_speech: bool = False) -> Heard:
        """Reads, judges and embeds one recording: its embedding, duration,
        speech and warnings. One that cannot be read, is silent, below 0.1 s or
        (where that is needed) without speech is refused."""
        heard = recording
        if not isinstance(recording, Heard):
            heard = hear(self._encoder, recording, self.progress)
        if needs_speech and not heard.speech:
            raise UserError(
                f"{heard.name}: no speech in its {heard.duration:.1f} s"
            )
        return heard

    def embed(self, recordings) -> np.ndarray:
        """Embeddings, float32 [N, D] of unit length, of one recording or a
        list; what is doubtful is logged as a warning, and one that cannot be
        used or has no speech is refused."""
        if not isinstance(recordings, list):
            recordings = [recordings]
        if not recordings:
            raise UserError("no recording is given")
        vectors = []
        for recording in recordings:
            heard = self.listen(recording, needs_speech=True)
            if heard is not recording:  # its listener knows
                for warning in heard.warnings:
                    logger.warning("%s", warning)
            vectors.append(heard.embedding)
        return np.stack(vectors)

    def verify(self, first, second) -> Verification:
        """Compares two recordings, in the forms that the class takes."""
        first, second = self.listen(first), self.listen(second)
        return self._decide(
            first.embedding @ second.embedding,
            speech=first.speech > 0 and second.speech > 0,
            warnings=self._doubts(first, second),
            seconds=np.minimum(first.taken, second.taken),
        )

    def enrol(
        self, name: str, recordings, replace: bool = False, add: bool = False
    ):
        """Adds a voice: the mean of the embeddings of one recording or a list,
        as ``embed`` takes them. A voice of this name may be replaced, or the
        recordings added to its; else the name is refused."""
        self.check_name(name, replace or add)
        vectors = self.embed(recordings)
        with self._lock:
            self.check_name(name, replace or add)
            nobody = enrolled.Enrolled(0 * vectors[0], 0)
            known = self._voices.get(name, nobody) if add else nobody
            self._voices = {**self._voices, name: known.with_more(vectors)}

    def check_name(self, name: str, replace: bool = False):
        """Raises UserError for a name that no new voice can have."""
        enrolled.check_name(name)
        if name in self._voices and not replace:
            raise UserError(
                f"{name}: enrolled already; replace=True (--replace) puts the "
                "new voice in its place, add=True (--add) makes one of both"
            )

    def voices(self) -> list[str]:
        """The names of the enrolled voices, in the order of enrolment."""
        return list(self._voices)

    def remove(self, name: str):
        """Forgets a voice; UserError where nobody of this name is enrolled."""
        with self._lock:
            if name not in self._voices:
                raise UserError(f"{name}: no such voice among {self.voices()}")
            left = {n: v for n, v in self._voices.items() if n != name}
            self._voices = left

    def identify(self, recording, top: int = 3) -> Identification:
        """Finds the enrolled voice that a recording has, among the ``top``
        nearest candidates.

        Each voice is compared by itself: the more there are, the more often a
        stranger is accepted as one of them.
        """
        voices = self._voices
        if not voices:
            raise UserError("no voice is enrolled")
        if top < 1:
            raise UserError(f"top={top}: at least 1, please")
        heard = self.listen(recording)
        cosines = {n: v.embedding @ heard.embedding for n, v in voices.items()}
        nearest = sorted(cosines, key=cosines.get, reverse=True)[:top]
        speech, seconds = heard.speech > 0, heard.taken
        found = {
            name: self._decide(cosines[name], speech, seconds=seconds)
            for name in nearest
        }
        best = found[nearest[0]]
        speaker = {True: nearest[0], False: enrolled.UNKNOWN, None: None}
        doubts = self._doubts(heard) + best.warnings
        return Identification(speaker[best.same_speaker], found, doubts)

    def save_voices(self, path: str | os.PathLike):
        """Writes the enrolled voices to an npz file."""
        enrolled.save_voices(path, self.key, self._voices)

    def load_voices(self, path: str | os.PathLike):
        """Takes the voices of a file in the place of those enrolled; UserError
        for no such file, or voices that another model made."""
        model, voices = enrolled.load_voices(path)
        if model != self.key:
            raise UserError(
                f"{path}: its voices were enrolled with another model; enrol "
                "them again with this one"
            )
        self._voices = voices

    @contextlib.contextmanager
    def editing(self, path: str | os.PathLike):
        """Loads a store, if there is one, lets the voices be changed, and saves
        them; no other process changes it meanwhile."""
        with self._lock, enrolled.locked(path):
            self._voices = {}
            if os.path.exists(path):
                self.load_voices(path)
            before = self._voices
            yield
            if self._voices is not before:
                self.save_voices(path)

    def _decide(self, cosine, speech=True, warnings=(), seconds=math.nan):
        """Judges a cosine by the threshold, else by the calibration, where
        there is either and speech in all recordings; ``seconds`` are what the
        model took of the shorter one."""
        cosine = float(np.clip(cosine, -1, 1))
        rule, threshold = self._calibration, self._threshold
        ratio = miss = false_alarm = same = None
        if rule is not None:
            ratio = float(rule(cosine, seconds))
        if rule is not None and threshold is None:
            found = rule.operating_point(self._prior, seconds)
            threshold, miss, false_alarm = found
            if rule.scores == "cosine" and abs(threshold) >= 1:
                warnings += (
                    f"out of reach: at p_target {self._prior:g} the threshold "
                    f"is a cosine of {threshold:.3f}, which no recordings have",
                )
        if speech and threshold is not None:
            same = cosine >= threshold
        return Verification(
            cosine, ratio, threshold, same, miss, false_alarm, warnings
        )

    def _doubts(self, *heard):
        """What makes a decision about some recordings doubtful."""
        several = tuple(
            f"{u.name}: its parts differ as two speakers do (cosine "
            f"{u.agreement:.2f}); one at a time, please"
            for u in heard
            if u.agreement is not None
            and self._decide(u.agreement, seconds=u.taken / 2).same_speaker
            is False
        )
        own = tuple(warning for u in heard for warning in u.warnings)
        return self._of_model + own + several


def _limits_of(training):
    """What a model's training says against its decisions."""
    speakers = training.get("speakers")
    if training.get("synthetic"):
        said = f"{speakers} synthetic voices: not for real speech"
    elif isinstance(speakers, int) and speakers < _FEW:
        said = f"{speakers} speakers: too few to know others apart"
    else:
        return ()
    return (f"the model was trained on {said}",)
