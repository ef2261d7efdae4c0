"""Finding a corpus's audio files, and judging each before training starts."""

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
from speechbrain_scl.data.recordings import UNREADABLE
from speechbrain_scl.data.whole import (
    LENGTH_UNKNOWN,
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
# Folders that network drives, Windows, macOS and Linux leave
_OF_SYSTEMS = {"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "lost+found"}


class AudioFile(NamedTuple):
    """An accepted file."""

    path: str
    samples: int
    duration: float  # seconds


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
    for place, folders, files in os.walk(
        root, onerror=_refuse_to_skip, followlinks=True
    ):
        files = [name for name in files if name.lower().endswith(endings)]
        for names in (folders, files):
            shown = [n for n in names if n[0] != "." and n not in _OF_SYSTEMS]
            hidden += [os.path.join(place, n) for n in set(names) - set(shown)]
            names[:] = shown
        folders[:] = [n for n in folders if not _loops(os.path.join(place, n))]
        found += [os.path.join(place, name) for name in files]
    if hidden:
        logger.warning(
            f"{root}: {len(hidden)} hidden files or folders are not read, the "
            f"first is {ascii(min(hidden))}"
        )
    return sorted(found)


def _refuse_to_skip(error):
    raise UserError(
        f"{error.filename}: cannot be listed ({error.strerror}); mend its "
        "permissions or move it away"
    ) from error


def _loops(path):
    """A link to a folder that the walk is already inside would never end."""
    return os.path.islink(path) and os.path.realpath(path) in map(
        os.path.realpath, Path(path).parents
    )


def check_audio(path, sample_rate=16000, min_duration=0.0, check="headers"):
    """Judges one file, to AudioFile or Excluded: by its header and, where that
    does not tell, its last samples, or all in formats that can hold NaN; with
    ``full`` every file by all of them, which also finds silence."""
    return read_audio(path, path, sample_rate, min_duration, check)[0]


def read_audio(path, source, sample_rate=16000, min_duration=0.0, check="full"):
    """The verdict on a file, of which ``source`` is the path or a file object,
    and the samples that were read for it."""
    try:
        path.encode()
    except UnicodeEncodeError:  # no manifest can hold it
        return Excluded(ascii(path), "name", "not UTF-8: rename it"), None
    ending = os.path.splitext(path)[1]
    try:
        if ending.lower() in TO_CONVERT:
            fault = "format", f"{ending} is not read here"
        elif os.path.getsize(path) == 0:
            fault = "empty", "zero bytes"
        else:
            with soundfile.SoundFile(source) as file:
                fault = _fault_of_header(file, path, sample_rate, min_duration)
                if not fault:
                    fault, signal = _fault_of_samples(file, check)
                if not fault:
                    seconds = file.frames / sample_rate
                    return AudioFile(path, file.frames, seconds), signal
    except (*UNREADABLE, OSError) as error:
        fault = "unreadable", str(error)
    reason, value = fault
    if reason in CONVERTIBLE:
        # What the command leaves is taken.
        other = ".wav" if ending.lower() == ".flac" else ".flac"
        names = path, Path(path).with_suffix(other), f"{path}.original"
        old, new, aside = (shlex.quote(str(name)) for name in names)
        value += f"; convert it: ffmpeg -i {old} -vn -ac 1 -ar {sample_rate} "
        value += f"{new} && mv {old} {aside}"
    return Excluded(path, reason, value), None


def _fault_of_header(file, path, sample_rate, min_duration):
    """Reason and value, or None."""
    check_kind(file)
    samples = file.frames
    if file.samplerate != sample_rate:
        return "sample rate", f"{file.samplerate} Hz instead of {sample_rate}"
    if file.channels != 1:
        return "channels", f"{file.channels} instead of 1"
    if samples >= LENGTH_UNKNOWN or (
        samples == 0 and unfilled(Path(path).read_bytes())
    ):
        return "length", "its header does not say how long it is"
    if samples == 0:
        return "empty", "no samples"
    if samples < min_duration * sample_rate:
        return "too short", f"{samples / sample_rate:.2f} s"
    missing = what_is_missing(file)
    return ("truncated", f"missing: {missing}") if missing else None


def _fault_of_samples(file, check):
    """Reason and value or None, and the samples that were read."""
    # Only floating-point formats can hold NaN.
    full = check == "full" or file.subtype in ("FLOAT", "DOUBLE")
    if not full and file.format in ("WAV", "WAVEX"):
        # Its header has been compared with the file's size.
        return None, None
    file.seek(0 if full else max(file.frames - 1600, 0))
    wanted = file.frames - file.tell()
    signal = file.read(dtype="float32")
    bad = int((~np.isfinite(signal)).sum())
    if bad:
        return ("not finite", f"{bad} samples are NaN or inf"), None
    if len(signal) < wanted:
        return ("truncated", f"missing: {wanted - len(signal)} samples"), None
    peak = float(np.abs(signal).max())
    if full and peak < SILENCE_PEAK:
        return ("silent", f"peak {peak:.1e} of full scale"), None
    return None, signal


def check_all(paths, **options):
    """Judges many files in threads: those accepted and those excluded, in the
    order of their paths."""
    check, checks = options.get("check", "headers"), ["headers", "full"]
    if check not in checks:
        raise UserError(f"check_audio={check!r}: choose one of {checks}")

    # Decoding and file access release the interpreter's lock. A million tasks
    # would be a gigabyte.
    n = max(min(len(paths) // (8 * os.cpu_count()), 256), 1)
    with ThreadPool(os.cpu_count()) as pool:
        done = pool.imap(partial(check_audio, **options), paths, n)
        progress = {"desc": "Checking audio", "disable": None}
        results = list(tqdm(done, total=len(paths), **progress))
    accepted = [r for r in results if isinstance(r, AudioFile)]
    return accepted, [r for r in results if isinstance(r, Excluded)]
