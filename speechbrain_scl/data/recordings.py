"""The one reader of recordings: one channel, at the rate a model wants."""

import contextlib
import dataclasses
import io
import os
import re
import shutil
import subprocess
import tempfile
from functools import partial
from math import gcd
from numbers import Real
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_scl.data.whole import (
    LENGTH_UNKNOWN,
    check_kind,
    unfilled,
    what_is_missing,
)
from speechbrain_scl.errors import UserError

FFMPEG = "pip install imageio-ffmpeg"
# What soundfile raises of a file that it does not read, or whose header
# promises more than a memory holds
UNREADABLE = (RuntimeError, TypeError, ValueError, MemoryError)
_BLOCK = 2**20  # samples that are read at a time
_FFMPEG_CUT = re.compile(
    "corrupt|partial file|prematurely|too small|Invalid data|end tag", re.I
)


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording, ready for a model."""

    name: str
    waveform: np.ndarray  # float32 [time], finite
    sample_rate: int
    change: str = ""  # what was done to fit the model
    missing: str = ""  # what it promises and lacks, where it was cut

    @property
    def duration(self):
        """Length in seconds."""
        return len(self.waveform) / self.sample_rate


def read_recording(source, sample_rate=16000):
    """Reads, mixes down and resamples a recording.

    A path; a file open for binary reading; or (samples, rate in Hz), where
    samples is a NumPy array or tensor of [time], [channels, time] or [time,
    channels] (the longer side is time), of int16, int32 or uint8 at full scale
    or of floats. Files have any format that soundfile or ffmpeg reads.
    """
    if isinstance(source, tuple):
        name, decoded = "the array", partial(_given, source)
    else:
        name, content = _name_and_content(source)
        decoded = partial(_decoded, name, content)
    try:
        waveform, channels, rate, missing = decoded(sample_rate)
        # A sum of all needs no copy of a long recording.
        if not np.isfinite(waveform.sum(dtype=np.float64)):
            raise UserError("some of its samples are NaN or infinite")
        if waveform.size == 0:
            raise UserError("it holds no samples")
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    changes = [f"{rate} Hz to {sample_rate} Hz"] * (rate != sample_rate)
    changes += [f"{channels} channels to 1"] * (channels > 1)
    return Recording(name, waveform, sample_rate, ", ".join(changes), missing)


def resample(waveform, rate, wanted):
    """A waveform [time] at another rate, float32."""
    waveform = np.asarray(waveform, dtype=np.float32)
    if rate == wanted:
        return waveform
    starts = range(0, len(waveform), _BLOCK)
    blocks = (waveform[start : start + _BLOCK] for start in starts)
    return _resampled(blocks, rate, wanted)[0]


def _resampled(blocks, rate, wanted):
    """Blocks of a waveform, joined, at another rate, and how many samples they
    had: what SciPy makes of the whole, which need not be in memory."""
    if not 1000 <= rate <= 1_000_000:  # a damaged header, or days of work
        raise UserError(f"its rate is {rate} Hz, which no sound has")
    if rate != wanted:  # its import takes a while
        from scipy.signal import resample_poly

    common = gcd(rate, wanted)
    up, down = wanted // common, rate // common
    # Samples before and after one that its filter takes, by which two stretches
    # overlap; stretches begin where a sample of either rate does.
    margin = -(-10 * max(up, down) // (up * down)) * down
    joined, held = bytearray(), np.zeros(0, np.float32)
    n_read = done = 0
    for block in blocks:
        n_read += len(block)
        if rate == wanted:
            joined += memoryview(block)
            continue
        held = np.concatenate([held, block])
        if len(held) > 4 * _BLOCK:
            end = (len(held) - margin) // down * down
            new = resample_poly(held, up, down)
            joined += memoryview(new[done // down * up : end // down * up])
            held, done = held[end - margin :], margin
    if len(held):
        new = resample_poly(held, up, down)
        joined += memoryview(new[done // down * up :])
    return np.frombuffer(joined, dtype=np.float32), n_read


def ffmpeg_program():
    """The system's ffmpeg, else that of imageio-ffmpeg; None without any."""
    with contextlib.suppress(ImportError, RuntimeError):
        if found := shutil.which("ffmpeg"):
            return found
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()


def _given(source, sample_rate):
    """Of samples from memory, what ``_decoded`` returns of a file."""
    if len(source) != 2 or isinstance(source[0], str | os.PathLike):
        raise UserError(
            "a tuple is (samples, rate); several recordings come as a list"
        )
    samples, rate = source
    if not isinstance(rate, Real) or not rate >= 1 or rate != int(rate):
        raise UserError(f"its rate is {rate!r} instead of some Hz")
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        # NumPy has no bfloat16.
        samples = samples.float() if samples.is_floating_point() else samples
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise UserError(
            f"its shape is {samples.shape}; it must be [time], "
            "[channels, time] or [time, channels]"
        )
    if samples.dtype in (np.int16, np.int32):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype == np.uint8:
        samples = samples / 128 - 1
    elif samples.dtype.kind != "f":
        raise UserError(f"samples of {samples.dtype} are no sound")
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    starts = range(0, len(samples), _BLOCK)
    blocks = (samples[i : i + _BLOCK].astype("f4").mean(1) for i in starts)
    waveform, _ = _resampled(blocks, int(rate), sample_rate)
    return waveform, samples.shape[1], int(rate), ""


def _name_and_content(source):
    """Of a path (without content) or of an open file."""
    fault, content = "", None
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the recording"))
        with contextlib.suppress(UnicodeDecodeError):
            content = source.read()
        if isinstance(content, str | None):
            fault = "open it for binary reading ('rb')"
        elif not content:
            fault = "it is empty"
    elif isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if os.path.isdir(name):
            fault = "a folder, not a recording"
        elif not os.path.isfile(name):
            fault = "there is no such recording"
        elif os.path.getsize(name) == 0:
            fault = "it is empty"
    else:
        kind = type(source).__name__
        raise UserError(
            f"a recording is a path, a file object or (samples, rate), not {kind}"
        )
    if fault:
        raise UserError(f"{name}: {fault}")
    return name, content


def _decoded(name, content, sample_rate):
    """Waveform at a rate, number of channels, its own rate, what is missing."""
    promised = LENGTH_UNKNOWN
    try:
        source = name if content is None else io.BytesIO(content)
        with soundfile.SoundFile(source) as file:
            check_kind(file)
            if file.frames == 0:
                filled = unfilled(content or Path(name).read_bytes())
                if filled:
                    return _decoded(name, filled, sample_rate)
            promised = file.frames
            waveform, n_read = _mono(file, sample_rate)
            missing = what_is_missing(file, n_read)
            return waveform, file.channels, file.samplerate, missing
    except OSError as error:
        raise UserError(error.strerror) from error
    except UserError:
        raise
    except UNREADABLE as error:
        if ffmpeg_program() is None:
            raise UserError(
                "not a format that soundfile reads; if it is sound, "
                f"install ffmpeg and try again: {FFMPEG}"
            ) from error
    return _by_ffmpeg(name, content, sample_rate, promised)


def _mono(file, sample_rate):
    """The mean of the channels [time] of an open sound file at a rate, and how
    many samples it had."""

    def blocks():
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            yield block.mean(1)

    return _resampled(blocks(), file.samplerate, sample_rate)


def _by_ffmpeg(name, content, sample_rate, promised):
    """As ``_decoded``, with what ffmpeg says of one that was cut, or what its
    header had promised."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.abspath(name)
        if content is not None:
            path = os.path.join(folder, "in")
            Path(path).write_bytes(content)
        target = os.path.join(folder, "out.w64")  # of any length
        # A playlist must not make it read from a network.
        done = subprocess.run(
            [ffmpeg_program(), "-v", "warning", "-nostdin"]
            + ["-protocol_whitelist", "file", "-i", f"file:{path}"]
            + ["-vn", "-c:a", "pcm_f32le", f"file:{target}"],
            capture_output=True,
            text=True,
            errors="replace",
        )
        said = done.stderr.strip().splitlines() or ["no sound"]
        if done.returncode or not os.path.isfile(target):
            raise UserError(
                "neither soundfile nor ffmpeg reads it "
                f"({said[-1].replace(path, name)})"
            )
        with soundfile.SoundFile(target) as file:
            waveform, n_read = _mono(file, sample_rate)
            channels, rate = file.channels, file.samplerate
    missing = "its end, or parts of it" * any(map(_FFMPEG_CUT.search, said))
    if n_read < promised < LENGTH_UNKNOWN:
        missing = f"{promised - n_read} of {promised} samples"
    return waveform, channels, rate, missing
