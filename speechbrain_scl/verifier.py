"""Who speaks? One trained encoder, and recordings from anywhere."""

import os
import tempfile

import numpy as np
import torch

from speechbrain.utils.distributed import infer_device
from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.voices.decisions import (
    Decider,
    Heard,
    Identification,
    Verification,
)
from speechbrain_scl.voices.enrolled import Enrolled, load_voices, save_voices
from speechbrain_scl.voices.speech import speech_seconds

logger = get_logger(__name__)

UNKNOWN = "unknown"
# Seconds: below, an encoder's kernels do not fit; a voice says little.
_SHORTEST = 0.1
_LITTLE_SPEECH = 1.0


class SpeakerVerifier:
    """Compares, enrols and identifies speakers.

    A recording is a path, a file open for binary reading, or (samples, rate),
    with samples a NumPy array or tensor of [time], [channels, time] or [time,
    channels]; of any rate and number of channels. What ``listen`` returned
    takes the place of a recording everywhere.

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

    def __init__(
        self,
        encoder,
        calibration: Calibration | None = None,
        threshold: float | None = None,
        p_target: float | None = None,
    ):
        self._encoder = encoder
        self._decide = Decider(calibration, threshold, p_target)
        self._voices = {}

    @classmethod
    def load(
        cls,
        model: str | os.PathLike,
        device: str | None = None,
        calibration: str | os.PathLike | Calibration | None = None,
        threshold: float | None = None,
        p_target: float | None = None,
    ) -> "SpeakerVerifier":
        """A verifier with a trained encoder.

        Arguments
        ---------
        model : str
            The ``inference`` folder of a training run, a hub repository, or a
            short name such as ecapa-voxceleb (``evaluation.encoder.KNOWN``).
        device : str or None
            Such as cpu or cuda; None takes the best there is.
        calibration : str, Calibration or None
            A calibration.json of this model.
        threshold, p_target : float or None
            As the class takes them.

        Returns
        -------
        SpeakerVerifier

        Raises
        ------
        UserError
            No such model, device or calibration.
        """
        with tempfile.TemporaryDirectory() as folder:
            encoder = load_encoder(
                os.fspath(model), folder, device or infer_device()
            )
        if isinstance(calibration, str | os.PathLike):
            calibration = Calibration.load(calibration, model=encoder.key)
        return cls(encoder, calibration, threshold, p_target)

    @property
    def decides(self) -> bool:
        """Whether there is a calibration or threshold."""
        return bool(self._decide)

    def listen(self, recording) -> Heard:
        """Reads, judges and embeds one recording.

        Arguments
        ---------
        recording : recording
            As the class takes them.

        Returns
        -------
        Heard
            Its embedding, duration, speech and warnings.

        Raises
        ------
        UserError
            A recording that cannot be read, is silent or below 0.1 s.
        """
        if isinstance(recording, Heard):
            return recording
        read = read_recording(recording, self._encoder.sample_rate)
        name, waveform = read.name, read.waveform
        if not waveform.any():
            raise UserError(f"{name}: it is silent")
        if read.duration < _SHORTEST:
            raise UserError(
                f"{name}: {read.duration:.3f} s; no voice is known from less "
                f"than {_SHORTEST} s"
            )
        speech = speech_seconds(waveform, read.sample_rate)
        warnings = ()
        if read.missing:
            warnings += (f"{name}: cut off: {read.missing} missing",)
        if speech == 0:
            warnings += (f"{name}: no speech in its {read.duration:.1f} s",)
        elif speech < _LITTLE_SPEECH:
            warnings += (
                f"{name}: only {speech:.2f} s of speech; scores of less than "
                f"{_LITTLE_SPEECH:.0f} s say little",
            )
        vector = self._embed(name, waveform)
        return Heard(name, vector, read.duration, speech, read.change, warnings)

    def embed(self, recordings) -> np.ndarray:
        """Embeddings of recordings; what is doubtful is logged as a warning.

        Arguments
        ---------
        recordings : list, or one recording
            As the class takes them.

        Returns
        -------
        numpy.ndarray
            float32 [N, D], unit length; N is 1 for one recording.
        """
        return np.stack([u.embedding for u in self._listen_all(recordings)])

    def verify(self, first, second) -> Verification:
        """Compares two recordings.

        Arguments
        ---------
        first, second : recording
            As the class takes them.

        Returns
        -------
        Verification
        """
        first, second = self.listen(first), self.listen(second)
        return self._decide(
            first.embedding @ second.embedding,
            speech=first.speech > 0 and second.speech > 0,
            warnings=first.warnings + second.warnings,
        )

    def enrol(self, name: str, recordings, replace: bool = False):
        """Adds a voice: the mean of its recordings' embeddings.

        Arguments
        ---------
        name : str
            The speaker's.
        recordings : list, or one recording
            As the class takes them; what is doubtful is logged as a warning.
        replace : bool
            Whether a voice of this name may be replaced.

        Raises
        ------
        UserError
            A name that is taken or none, or a recording that cannot be used.
        """
        self.check_name(name, replace)
        heard = self._listen_all(recordings)
        mean = mean_embedding([u.embedding for u in heard])
        self._voices[name] = Enrolled(mean, len(heard))

    def check_name(self, name: str, replace: bool = False):
        """Refuses a name that no new voice can have.

        Arguments
        ---------
        name : str
            The speaker's.
        replace : bool
            Whether a voice of this name may be replaced.

        Raises
        ------
        UserError
            Such a name.
        """
        if not isinstance(name, str) or not name.strip() or name == UNKNOWN:
            raise UserError(f"{name!r}: not a name for a voice")
        if name in self._voices and not replace:
            raise UserError(
                f"{name}: enrolled already; replace=True (--replace) puts the "
                "new voice in its place"
            )

    def voices(self) -> list[str]:
        """The names of the enrolled voices, in the order of enrolment.

        Returns
        -------
        list of str
        """
        return list(self._voices)

    def remove(self, name: str):
        """Forgets a voice.

        Arguments
        ---------
        name : str
            The speaker's.

        Raises
        ------
        UserError
            Nobody of this name is enrolled.
        """
        if name not in self._voices:
            raise UserError(f"{name}: no such voice among {self.voices()}")
        del self._voices[name]

    def identify(self, recording, top: int = 3) -> Identification:
        """Finds the enrolled voice that a recording has.

        Each voice is compared by itself: the more there are, the more often a
        stranger is accepted as one of them.

        Arguments
        ---------
        recording : recording
            As the class takes them.
        top : int
            How many candidates are returned.

        Returns
        -------
        Identification

        Raises
        ------
        UserError
            No voice is enrolled, or ``top`` is below 1.
        """
        if not self._voices:
            raise UserError("no voice is enrolled")
        if top < 1:
            raise UserError(f"top={top}: at least 1, please")
        heard = self.listen(recording)
        cosines = {
            name: float(voice.embedding @ heard.embedding)
            for name, voice in self._voices.items()
        }
        nearest = sorted(cosines, key=cosines.get, reverse=True)[:top]
        found = {
            name: self._decide(cosines[name], heard.speech > 0)
            for name in nearest
        }
        best = found[nearest[0]]
        speaker = {True: nearest[0], False: UNKNOWN, None: None}
        return Identification(
            speaker[best.same_speaker], found, heard.warnings + best.warnings
        )

    def save_voices(self, path: str | os.PathLike):
        """Writes the enrolled voices.

        Arguments
        ---------
        path : str
            An npz file.
        """
        save_voices(path, self._encoder.key, self._voices)

    def load_voices(self, path: str | os.PathLike):
        """Takes the voices of a file in the place of those enrolled.

        Arguments
        ---------
        path : str
            As ``save_voices`` wrote it.

        Raises
        ------
        UserError
            No such file, or voices that another model made.
        """
        model, voices = load_voices(path)
        if model != self._encoder.key:
            raise UserError(
                f"{path}: its voices were enrolled with another model; enrol "
                "them again with this one"
            )
        self._voices = voices

    def _listen_all(self, recordings):
        if not isinstance(recordings, list):
            recordings = [recordings]
        if not recordings:
            raise UserError("no recording is given")
        heard = []
        for recording in recordings:
            heard.append(self.listen(recording))
            if heard[-1] is not recording:  # its listener knows
                for warning in heard[-1].warnings:
                    logger.warning("%s", warning)
        return heard

    def _embed(self, name, waveform):
        """The unit embedding [D] of a waveform [time]."""
        try:
            with torch.inference_mode():
                vector = self._encoder(torch.from_numpy(waveform)[None])[0]
        except RuntimeError as error:  # out of memory, most of all
            seconds = len(waveform) / self._encoder.sample_rate
            raise UserError(
                f"{name}: the model cannot take its {seconds:.1f} s "
                f"({first_line(error)})"
            ) from error
        vector = vector.cpu().float().numpy()
        length = np.linalg.norm(vector)
        if not (np.isfinite(length) and length > 0):
            raise UserError(f"{name}: its embedding is zero or not finite")
        return vector / length
