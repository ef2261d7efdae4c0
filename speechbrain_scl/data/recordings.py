"""Any recording as one channel at the rate that a model wants."""

import dataclasses
import io
import os
import shutil
import subprocess
import tempfile
from math import gcd
from numbers import Real

import numpy as np
import soundfile
from scipy.signal import resample_poly

from speechbrain_scl.data.audio import bytes_missing
from speechbrain_scl.errors import UserError

FFMPEG = "pip install imageio-ffmpeg"


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording, ready for a model.

    Arguments
    ---------
    name : str
        The file's, for messages.
    waveform : numpy.ndarray
        float32 [time], finite.
    sample_rate : int
        In Hz.
    change : str
        What was done to fit the model, or "".
    missing : int
        Bytes that the file's header promises and it lacks.
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    change: str = ""
    missing: int = 0

    @property
    def duration(self):
        """Length in seconds."""
        return len(self.waveform) / self.sample_rate


def read_recording(source, sample_rate=16000):
    """Reads, mixes down and resamples a recording.

    Arguments
    ---------
    source : str, file object or tuple
        A path; a file open for binary reading; or (samples, rate in Hz), where
        samples is a NumPy array or tensor of [time], [channels, time] or
        [time, channels] (the longer side is time), of int16, int32 or uint8
        at full scale or of floats.
        Files have any format that soundfile reads (wav, flac, mp3, ogg, opus,
        aiff, ...), and with ffmpeg any that it reads (m4a, amr, video, ...).
    sample_rate : int
        The rate wanted, Hz.

    Returns
    -------
    Recording

    Raises
    ------
    UserError
        No such file, no sound in it, or a format that nothing here reads.

    Example
    -------
    >>> stereo = np.ones((2, 8000), dtype=np.int16)
    >>> recording = read_recording((stereo, 8000), 16000)
    >>> recording.waveform.shape, recording.change
    ((16000,), '8000 Hz to 16000 Hz, 2 channels to 1')
    """
    name, samples, rate, missing = _samples_of(source)
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: some of its samples are NaN or infinite")
    if samples.size == 0:
        raise UserError(f"{name}: it holds no samples")
    changes = []
    if rate != sample_rate:
        changes.append(f"{rate} Hz to {sample_rate} Hz")
    if samples.shape[1] > 1:
        changes.append(f"{samples.shape[1]} channels to 1")
    waveform = resample(samples.mean(1), rate, sample_rate)
    change = ", ".join(changes)
    return Recording(name, waveform, sample_rate, change, missing)


def resample(waveform, rate, wanted):
    """A waveform at another rate.

    Arguments
    ---------
    waveform : numpy.ndarray
        [time].
    rate, wanted : int
        Those of the waveform and of the result, Hz.

    Returns
    -------
    numpy.ndarray
        float32 [time].

    Example
    -------
    >>> resample(np.zeros(44100), 44100, 16000).shape
    (16000,)
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if rate == wanted:
        return waveform
    common = gcd(rate, wanted)
    return resample_poly(waveform, wanted // common, rate // common)


def _samples_of(source):
    """Name, samples [time, channels] as float32, rate, bytes missing."""
    if isinstance(source, tuple):
        if len(source) != 2 or isinstance(source[0], str | os.PathLike):
            raise UserError(
                "a tuple is (samples, rate); several recordings come as a list"
            )
        return *_given(*source), 0
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the recording"))
        try:
            content = source.read()
        except UnicodeDecodeError:
            content = ""  # a file that is open as text
        if isinstance(content, str):
            raise UserError(f"{name}: open it for binary reading ('rb')")
        if not content:
            raise UserError(f"{name}: it is empty")
        missing = bytes_missing(content[:8], len(content))
        return name, *_decoded(name, content), missing
    if not isinstance(source, str | os.PathLike):
        raise UserError(
            "a recording is a path, a file object or (samples, rate), not "
            f"{type(source).__name__}"
        )
    path = os.fspath(source)
    if not os.path.isfile(path):
        raise UserError(
            f"{path}: a folder, not a recording"
            if os.path.isdir(path)
            else f"{path}: there is no such recording"
        )
    size = os.path.getsize(path)
    if size == 0:
        raise UserError(f"{path}: it is empty")
    try:
        with open(path, "rb") as file:
            missing = bytes_missing(file.read(8), size)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return path, *_decoded(path, None), missing


def _given(samples, rate):
    """Samples from memory, as those of a file."""
    name = "the array"
    if not isinstance(rate, Real) or not rate >= 1 or rate != int(rate):
        raise UserError(f"{name}: its rate is {rate!r} instead of some Hz")
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        # NumPy has no bfloat16.
        samples = samples.float() if samples.is_floating_point() else samples
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise UserError(
            f"{name}: its shape is {samples.shape}; it must be [time], "
            "[channels, time] or [time, channels]"
        )
    if samples.dtype in (np.int16, np.int32):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype == np.uint8:
        samples = samples / 128 - 1
    elif samples.dtype.kind != "f":
        raise UserError(f"{name}: samples of {samples.dtype} are no sound")
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    return name, samples.astype(np.float32), int(rate)


def _decoded(name, content):
    """Samples and rate of a path (no content) or of a file's bytes."""
    try:
        file = name if content is None else io.BytesIO(content)
        return soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        program = _ffmpeg()
        if program is None:
            raise UserError(
                f"{name}: not a format that soundfile reads; if it is sound, "
                f"install ffmpeg and try again: {FFMPEG}"
            ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.abspath(name)
        if content is not None:
            path = os.path.join(folder, "in")
            with open(path, "wb") as file:
                file.write(content)
        target = os.path.join(folder, "out.wav")
        # A playlist must not make it read from a network.
        done = subprocess.run(
            [program, "-v", "error", "-nostdin"]
            + ["-protocol_whitelist", "file", "-i", f"file:{path}"]
            + ["-vn", "-c:a", "pcm_f32le", f"file:{target}"],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode or not os.path.isfile(target):
            said = done.stderr.strip().splitlines() or ["no sound"]
            raise UserError(
                f"{name}: neither soundfile nor ffmpeg reads it "
                f"({said[-1].replace(path, name)})"
            )
        return soundfile.read(target, dtype="float32", always_2d=True)


def _ffmpeg():
    """The program ffmpeg: the system's, else that of imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None
