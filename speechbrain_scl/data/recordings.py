"""The one reader of recordings: one channel, at the rate a model wants."""

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

from speechbrain_scl.errors import UserError

FFMPEG = "pip install imageio-ffmpeg"
# What soundfile raises of a file that it does not read, or whose header
# promises more than a memory holds
UNREADABLE = (RuntimeError, TypeError, ValueError, MemoryError)
# Samples that libsndfile reports of a file that does not say how many it has
LENGTH_UNKNOWN = 2**62
# Kilobits per second of an MP3's frames: of MPEG-1, and of MPEG-2's low rates
_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBIT_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
# Formats of which a cut can be told
_TELLING = "WAV WAVEX RF64 W64 AIFF AU CAF NIST SVX FLAC OGG MP3".split()
# libsndfile's log of a header that promises another length than there is
_PROMISED = re.compile(r"(\w+) *: (\d+) \(should be (\d+)\)")
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
    changes = []
    if rate != sample_rate:
        changes.append(f"{rate} Hz to {sample_rate} Hz")
    if channels > 1:
        changes.append(f"{channels} channels to 1")
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


def check_kind(file):
    """Refuses an open sound file that may be a part without its header saying
    so."""
    of_blocks = file.format in ("AIFF", "AU") and file.subtype[0] == "G"
    if file.format not in _TELLING or of_blocks:
        raise UserError(
            f"nobody can tell whether a file of {file.format} ({file.subtype}) "
            "is whole: convert it to WAV or FLAC"
        )


def what_is_missing(file, n_read=None):
    """What an open file promises beyond what it holds (libsndfile reads what is
    there), or ""; ``n_read`` samples were read of all, where they were."""
    for _, promised, there in _PROMISED.findall(file.extra_info):
        promised, there = int(promised), int(there)
        # Writers to a pipe put the largest number, some leave out the padding
        # byte; zero is a length that was never filled in.
        unknown = any(abs(promised - 2**n) < 4096 for n in (31, 32, 63, 64))
        if promised - there > 1 and not unknown:
            return f"{promised - there} of {promised} bytes"
    promised = None
    if file.format == "NIST":
        found = re.search(rb"sample_count -i (\d+)", _bytes_of(file, 1024))
        promised, n_read = found and int(found[1]), file.frames
    elif file.format == "OGG":
        tail = _bytes_of(file, -(2**17))
        page = tail[tail.rfind(b"OggS") :] + bytes(27)
        lengths = page[27 : 27 + page[26]]  # RFC 3533
        if not page[5] & 4 or 27 + len(lengths) + sum(lengths) > len(page) - 27:
            return "the end of the stream"
    elif file.format == "MP3" and _mp3_ends_within(_bytes_of(file, None)):
        return "the end of its last frame"
    elif file.format != "MP3" or re.search(
        rb"Xing|Info", _bytes_of(file, 2**14)
    ):  # other MP3 files do not say how long they are
        promised = file.frames
    if None not in (promised, n_read) and n_read < promised < LENGTH_UNKNOWN:
        return f"{promised - n_read} of {promised} samples"
    return ""


def _mp3_ends_within(content):
    """Whether the last frame is not all there: a walk from header to header
    (ISO 11172-3, 13818-3), to what is no frame: a tag, or another layer. What
    was cut between two frames cannot be told from a shorter recording."""
    place = 0
    if content[:3] == b"ID3":  # a tag, its size in four times seven bits
        size = enumerate(reversed(content[6:10]))
        place = 10 + sum(byte << 7 * i for i, byte in size)
    while place + 4 <= len(content):
        header = int.from_bytes(content[place : place + 4], "big")
        version, rate = header >> 19 & 3, header >> 10 & 3
        low = version != 3  # MPEG-2, or (0) 2.5 with half its rates
        kbit = (_KBIT_LOW if low else _KBIT)[header >> 12 & 15]
        is_layer_3 = header >> 21 == 0x7FF and header >> 17 & 3 == 1
        if not is_layer_3 or version == 1 or rate == 3 or kbit == 0:
            return False
        rate = (44100, 48000, 32000)[rate] >> low + (version == 0)
        padding = header >> 9 & 1
        place += (72000 if low else 144000) * kbit // rate + padding
    return place > len(content) or content[place : place + 1] == b"\xff"


def _bytes_of(file, count):
    """The first bytes of an open sound file, (below 0) the last, (None) all."""
    source = file.name
    if isinstance(source, io.BytesIO):
        content = source.getvalue()
        return content[count:] if (count or 0) < 0 else content[:count]
    with open(source, "rb") as raw:
        if (count or 0) < 0:
            raw.seek(max(os.path.getsize(source) + count, 0))
            count = None
        return raw.read(count)


def ffmpeg_program():
    """The system's ffmpeg, else that of imageio-ffmpeg; None without any."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return None


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
        return name, content
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
    if os.path.getsize(path) == 0:
        raise UserError(f"{path}: it is empty")
    return path, None


def unfilled(content):
    """The bytes of a WAV whose writer never filled in its length, with their
    length open; None of any other file."""
    place = 12
    while content[:4] == b"RIFF" and place + 8 <= len(content):
        start = place + 8
        length = int.from_bytes(content[place + 4 : start], "little")
        if content[place : place + 4] == b"data":
            after = content[start : start + 4]
            other = after.isalnum()  # another chunk: there are no samples
            if length or not after or other:
                return None
            return content[: place + 4] + b"\xff" * 4 + content[start:]
        place = start + length + length % 2
    return None


def _decoded(name, content, sample_rate):
    """Waveform at a rate, number of channels, its own rate, what is missing."""
    promised = None
    try:
        source = name if content is None else io.BytesIO(content)
        with soundfile.SoundFile(source) as file:
            check_kind(file)
            if file.frames == 0:
                raw = Path(name).read_bytes() if content is None else content
                filled = unfilled(raw)
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
    if promised and n_read < promised < LENGTH_UNKNOWN:
        missing = f"{promised - n_read} of {promised} samples"
    return waveform, channels, rate, missing
