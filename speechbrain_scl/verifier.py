"""Who speaks? One trained encoder, and recordings from anywhere."""

import os
import tempfile

import numpy as np

from speechbrain.utils.distributed import infer_device
from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.values import is_text
from speechbrain_scl.voices.decisions import Identification, Judge
from speechbrain_scl.voices.listening import Heard, listen
from speechbrain_scl.voices.store import Voice, load_voices, save_voices

logger = get_logger(__name__)

UNKNOWN = "unknown"


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

    def __init__(
        self, encoder, calibration=None, threshold=None, p_target=None
    ):
        self._encoder = encoder
        self._judge = Judge(calibration, threshold, p_target)
        self._voices = {}

    @classmethod
    def load(
        cls,
        model,
        device=None,
        calibration=None,
        threshold=None,
        p_target=None,
    ):
        """A verifier with a trained encoder.

        Arguments
        ---------
        model : str
            The ``inference`` folder of a training, a hub repository, or a
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
    def decides(self):
        """Whether there is a calibration or threshold."""
        return self._judge.decides

    def listen(self, recording):
        """Hears one recording.

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
        return listen(self._encoder, recording)

    def embed(self, recordings):
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

    def verify(self, first, second):
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
        return self._judge(
            first.embedding @ second.embedding,
            heard=first.speech > 0 and second.speech > 0,
            warnings=first.warnings + second.warnings,
        )

    def enrol(self, name, recordings, replace=False):
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
        self._voices[name] = Voice(mean, len(heard))

    def check_name(self, name, replace=False):
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
        if not is_text(name) or name == UNKNOWN:
            raise UserError(f"{name!r}: not a name for a voice")
        if name in self._voices and not replace:
            raise UserError(
                f"{name}: enrolled already; replace=True (--replace) puts the "
                "new voice in its place"
            )

    def voices(self):
        """The names of the enrolled voices, in the order of enrolment.

        Returns
        -------
        list of str
        """
        return list(self._voices)

    def remove(self, name):
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

    def identify(self, recording, top=3):
        """Finds the enrolled voice that a recording has.

        Each voice is compared by itself: the more there are, the more often
        one of them is taken for a stranger.

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
        if not self._voices or top < 1:
            raise UserError(
                f"top={top}: at least 1, please"
                if self._voices
                else "no voice is enrolled"
            )
        utterance = self.listen(recording)
        cosines = {
            name: float(voice.embedding @ utterance.embedding)
            for name, voice in self._voices.items()
        }
        nearest = sorted(cosines, key=cosines.get, reverse=True)[:top]
        found = {
            name: self._judge(cosines[name], utterance.speech > 0)
            for name in nearest
        }
        best = nearest[0]
        speaker = {True: best, False: UNKNOWN, None: None}
        return Identification(
            speaker[found[best].same_speaker],
            found,
            utterance.warnings + found[best].warnings,
        )

    def save_voices(self, path):
        """Writes the enrolled voices.

        Arguments
        ---------
        path : str
            An npz file.
        """
        save_voices(path, self._encoder.key, self._voices)

    def load_voices(self, path):
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
