"""Finding a corpus's audio files, and judging each before training starts."""

import io
import os
import shlex
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.recordings import (
    LENGTH_UNKNOWN,
    UNREADABLE,
    check_kind,
    unfilled,
    what_is_missing,
)
from speechbrain_scl.errors import UserError

logger = get_logger(__name__)

READABLE = (".wav", ".flac")
# Known speech formats that soundfile does not read.
TO_CONVERT = (".m4a", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".mov")
# The reasons that a conversion removes
CONVERTIBLE = ("format", "sample rate", "channels", "length")
# Below this peak (-60 dB of full scale) a file holds no speech.
SILENCE_PEAK = 1e-3
CHECKS = ("headers", "full")
# Folders that network drives, Windows, macOS and Linux leave
_OF_SYSTEMS = {"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"}


class AudioFile(NamedTuple):
    """An accepted file."""

    path: str
    samples: int
    sample_rate: int  # Hz

    @property
    def duration(self):
        """Length in seconds."""
        return self.samples / self.sample_rate


class Excluded(NamedTuple):
    """A file that was left out: why, in a short, countable way, and what was
    found or can be done about it."""

    path: str
    reason: str
    value: str = ""


def find_audio(folder, endings=READABLE + TO_CONVERT):
    """All audio files below a folder, sorted; links to folders are followed.
    What is hidden (``._a.wav``, ``.Trash-0``, ``@eaDir``) is a system's and
    not a corpus's: it is left out, and a warning counts it."""
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise UserError(f"{root}: there is no such folder")
    found, hidden = [], []
    for place, folders, names in os.walk(
        root, onerror=_refuse_to_skip, followlinks=True
    ):
        names = [name for name in names if name.lower().endswith(endings)]
        hidden += [
            os.path.join(place, name)
            for name in filter(_is_hidden, [*folders, *names])
        ]
        folders[:] = [
            name
            for name in folders
            if not (_is_hidden(name) or _loops(root, place, name))
        ]
        found += [
            os.path.join(place, name) for name in names if not _is_hidden(name)
        ]
    if hidden:
        logger.warning(
            "%s: %d hidden files or folders are not read, the first is %s",
            root,
            len(hidden),
            ascii(min(hidden)),
        )
    return sorted(found)


def _is_hidden(name):
    return name.startswith(".") or name in _OF_SYSTEMS


def _refuse_to_skip(error):
    raise UserError(
        f"{error.filename}: cannot be listed ({error.strerror}); mend its "
        "permissions or move it away"
    ) from error


def _loops(root, place, name):
    """A link to a folder that the walk is already inside would never end."""
    path = os.path.join(place, name)
    if not os.path.islink(path):
        return False
    inside = [Path(place), *Path(place).parents]
    inside = inside[: inside.index(Path(root)) + 1]
    return os.path.realpath(path) in {os.path.realpath(p) for p in inside}


def check_audio(path, sample_rate=16000, min_duration=0.0, check="headers"):
    """Judges one file, to AudioFile or Excluded: by its header, its last
    samples (a truncated file fails there) and, of formats that can hold NaN,
    all; with ``full`` every file by all of them, which also finds silence."""
    return _check(path, path, sample_rate, min_duration, check)[0]


def read_audio(path, content, sample_rate=16000):
    """Judges one file by all its samples, and returns them."""
    return _check(path, io.BytesIO(content), sample_rate, 0.0, "full")


def _check(path, source, sample_rate, min_duration, check):
    """The verdict, and the samples that were read for it."""
    try:
        path.encode()
    except UnicodeEncodeError:  # no manifest can hold it
        return Excluded(ascii(path), "name", "not UTF-8: rename it"), None
    ending = os.path.splitext(path)[1]
    if ending.lower() in TO_CONVERT:
        value = f"{ending} is not read here"
        return _to_convert(path, "format", value, sample_rate), None
    try:
        if os.path.getsize(path) == 0:
            return Excluded(path, "empty", "zero bytes"), None
        with soundfile.SoundFile(source) as file:
            header = _judge_header(file, path, sample_rate, min_duration)
            if header:
                return header, None
            return _judge_samples(file, path, check)
    except (*UNREADABLE, OSError) as error:
        return Excluded(path, "unreadable", str(error)), None


def _to_convert(path, reason, value, sample_rate):
    """Left out until it is converted; what the command leaves is taken."""
    other = ".wav" if path.lower().endswith(".flac") else ".flac"
    source, target, aside = (
        shlex.quote(str(name))
        for name in (path, Path(path).with_suffix(other), f"{path}.original")
    )
    return Excluded(
        path,
        reason,
        f"{value}; convert it: ffmpeg -i {source} -vn -ac 1 -ar {sample_rate} "
        f"{target} && mv {source} {aside}",
    )


def _judge_header(file, path, sample_rate, min_duration):
    check_kind(file)
    samples = file.frames
    if file.samplerate != sample_rate:
        value = f"{file.samplerate} Hz instead of {sample_rate}"
        return _to_convert(path, "sample rate", value, sample_rate)
    if file.channels != 1:
        value = f"{file.channels} instead of 1"
        return _to_convert(path, "channels", value, sample_rate)
    if samples >= LENGTH_UNKNOWN or (
        samples == 0 and unfilled(Path(path).read_bytes())
    ):
        value = "its header does not say how long it is"
        return _to_convert(path, "length", value, sample_rate)
    if samples == 0:
        return Excluded(path, "empty", "no samples")
    if samples < min_duration * sample_rate:
        return Excluded(path, "too short", f"{samples / sample_rate:.2f} s")
    missing = what_is_missing(file)
    if missing:
        return Excluded(path, "truncated", f"missing: {missing}")
    return None


def _judge_samples(file, path, check):
    samples, signal = file.frames, None
    # Only floating-point formats can hold NaN.
    full = check == "full" or file.subtype in ("FLOAT", "DOUBLE")
    if full or file.format not in ("WAV", "WAVEX"):
        # Of a WAV the header has been compared with the file's size.
        file.seek(0 if full else max(samples - 1600, 0))
        wanted = samples - file.tell()
        signal = file.read(dtype="float32")
        if not np.isfinite(signal).all():
            bad = int((~np.isfinite(signal)).sum())
            value = f"{bad} samples are NaN or inf"
            return Excluded(path, "not finite", value), None
        if len(signal) < wanted:
            value = f"missing: {wanted - len(signal)} samples"
            return Excluded(path, "truncated", value), None
        if full and np.abs(signal).max() < SILENCE_PEAK:
            value = f"peak {float(np.abs(signal).max()):.1e} of full scale"
            return Excluded(path, "silent", value), None
    return AudioFile(path, samples, file.samplerate), signal


def check_all(paths, **options):
    """Judges many files in threads: those accepted and those excluded, in the
    order of their paths."""
    check = options.get("check", "headers")
    if check not in CHECKS:
        raise UserError(f"check_audio={check!r}: choose one of {list(CHECKS)}")

    # Decoding and file access release the interpreter's lock. A million tasks
    # would be a gigabyte.
    n = max(min(len(paths) // (8 * os.cpu_count()), 256), 1)
    with ThreadPool(os.cpu_count()) as pool:
        done = pool.imap(partial(check_audio, **options), paths, n)
        progress = {"desc": "Checking audio", "dynamic_ncols": True}
        results = list(tqdm(done, total=len(paths), **progress))
    accepted = [r for r in results if isinstance(r, AudioFile)]
    return accepted, [r for r in results if isinstance(r, Excluded)]
