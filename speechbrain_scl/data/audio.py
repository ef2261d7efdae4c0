"""Finding audio files, and judging each before training starts."""

import dataclasses
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_scl.errors import UserError

READABLE = (".wav", ".flac")
# Known speech formats that soundfile does not read.
TO_CONVERT = (".m4a", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".mov")
# The reasons that a conversion removes
CONVERTIBLE = ("format", "sample rate", "channels")
# Below this peak (-60 dB of full scale) a file holds no speech.
SILENCE_PEAK = 1e-3
CHECKS = ("headers", "full")


@dataclasses.dataclass(frozen=True)
class AudioFile:
    """An accepted file.

    Arguments
    ---------
    path : str
        The file.
    samples : int
        Its length.
    sample_rate : int
        In Hz.
    """

    path: str
    samples: int
    sample_rate: int

    @property
    def duration(self):
        """Length in seconds."""
        return self.samples / self.sample_rate


@dataclasses.dataclass(frozen=True)
class Excluded:
    """A file that was left out.

    Arguments
    ---------
    path : str
        The file.
    reason : str
        A short, countable reason.
    value : str
        What was found, and what to do about it.
    """

    path: str
    reason: str
    value: str = ""


def find_audio(folder, endings=READABLE + TO_CONVERT):
    """All audio files below a folder, sorted; links to folders are followed
    unless they lead back to a folder above.

    Arguments
    ---------
    folder : str or Path
        Where to look.
    endings : tuple of str
        Those of audio files, in lower case: by default the readable ones and
        those of a format to convert.

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        The folder, or one below it, does not exist or cannot be listed.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "b.flac").touch()
    >>> (folder / "a.wav").touch()
    >>> [os.path.basename(path) for path in find_audio(folder)]
    ['a.wav', 'b.flac']
    """
    return list(walk_audio(folder, endings))


def walk_audio(folder, endings=READABLE + TO_CONVERT):
    """As ``find_audio``, one after the other: of millions of files no more
    names are in memory than one folder has.

    Arguments
    ---------
    folder : str or Path
        Where to look.
    endings : tuple of str
        Those of audio files, in lower case.

    Yields
    ------
    str

    Raises
    ------
    UserError
        As for ``find_audio``.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: there is no such folder")
    yield from _walk(os.fspath(folder), os.fspath(folder), endings)


def _walk(root, place, endings):
    try:
        with os.scandir(place) as entries:
            # As the whole paths would be sorted
            entries = sorted(
                (entry.name + os.sep * entry.is_dir(), entry)
                for entry in entries
            )
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be listed ({error.strerror}); mend its "
            "permissions or move it away"
        ) from error
    for name, entry in entries:
        if name != entry.name:
            if not _loops(root, place, entry.name):
                yield from _walk(root, entry.path, endings)
        elif name.lower().endswith(endings):
            yield entry.path


def _loops(root, place, name):
    """A link to a folder that the walk is already inside would never end."""
    path = os.path.join(place, name)
    if not os.path.islink(path):
        return False
    inside = [Path(place), *Path(place).parents]
    inside = inside[: inside.index(Path(root)) + 1]
    return os.path.realpath(path) in {os.path.realpath(p) for p in inside}


def check_audio(path, sample_rate=16000, min_duration=0.0, check="headers"):
    """Judges one file by its header, or by all its samples.

    Arguments
    ---------
    path : str
        The file.
    sample_rate : int
        The only rate accepted, Hz.
    min_duration : float
        Seconds; shorter files are left out.
    check : str
        ``headers`` reads the header, the last samples (a truncated file
        fails there) and, of formats that can hold them, looks for NaN.
        ``full`` decodes everything and also finds silence.

    Returns
    -------
    AudioFile or Excluded

    Example
    -------
    >>> path = str(getfixture("tmp_path") / "a.wav")
    >>> soundfile.write(path, np.zeros(8000), 8000)
    >>> check_audio(path).reason
    'sample rate'
    """
    try:
        path.encode()
    except UnicodeEncodeError:  # no manifest can hold it
        return Excluded(ascii(path), "name", "not UTF-8: rename it")
    ending = os.path.splitext(path)[1]
    if ending.lower() in TO_CONVERT:
        return _to_convert(
            path, "format", f"{ending} is not read here", sample_rate
        )
    try:
        size = os.path.getsize(path)
        if size == 0:
            return Excluded(path, "empty", "zero bytes")
        with open(path, "rb") as file:
            missing = bytes_missing(file.read(8), size)
        if missing:
            return Excluded(path, "truncated", f"{missing} bytes are missing")
        with soundfile.SoundFile(path) as file:
            return _judge(file, path, sample_rate, min_duration, check)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        return Excluded(path, "unreadable", str(error))


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


def bytes_missing(head, size):
    """What a RIFF header promises beyond the file; libsndfile reads what is
    there.

    Arguments
    ---------
    head : bytes
        The first eight of the file.
    size : int
        Of the whole file, bytes.

    Returns
    -------
    int

    Example
    -------
    >>> bytes_missing(b"RIFF" + bytes([100, 0, 0, 0]), 58)
    50
    """
    promised = int.from_bytes(head[4:], "little")
    # Encoders that write to a pipe put the largest number.
    if head[:4] != b"RIFF" or promised >= 0x7FFFF000:
        return 0
    missing = promised + 8 - size
    # Some writers leave out the padding byte.
    return missing if missing > 1 else 0


def _judge(file, path, sample_rate, min_duration, check):
    if file.samplerate != sample_rate:
        value = f"{file.samplerate} Hz instead of {sample_rate}"
        return _to_convert(path, "sample rate", value, sample_rate)
    if file.channels != 1:
        value = f"{file.channels} instead of 1"
        return _to_convert(path, "channels", value, sample_rate)
    if file.frames == 0:
        return Excluded(path, "empty", "no samples")
    if file.frames < min_duration * sample_rate:
        seconds = file.frames / sample_rate
        return Excluded(path, "too short", f"{seconds:.2f} s")
    samples = file.frames
    # Only floating-point formats can hold NaN.
    full = check == "full" or file.subtype in ("FLOAT", "DOUBLE")
    if not full and file.format in ("WAV", "WAVEX"):
        # Its header has been compared with its size: reading adds nothing.
        return AudioFile(path, samples, sample_rate)
    file.seek(0 if full else max(samples - 1600, 0))
    wanted = samples - file.tell()
    signal = file.read(dtype="float32")
    if len(signal) < wanted:
        return Excluded(
            path, "truncated", f"{wanted - len(signal)} samples are missing"
        )
    if not np.isfinite(signal).all():
        bad = int((~np.isfinite(signal)).sum())
        return Excluded(path, "not finite", f"{bad} samples are NaN or inf")
    if full and np.abs(signal).max() < SILENCE_PEAK:
        peak = float(np.abs(signal).max())
        return Excluded(path, "silent", f"peak {peak:.1e} of full scale")
    return AudioFile(path, samples, sample_rate)


def check_name(check):
    """Refuses an unknown way to check.

    Arguments
    ---------
    check : str
        One of ``CHECKS``.

    Raises
    ------
    UserError
        It is none.
    """
    if check not in CHECKS:
        raise UserError(f"check_audio={check!r}: choose one of {list(CHECKS)}")


def check_all(paths, n_threads=None, **options):
    """Judges many files in parallel, with a progress bar.

    Arguments
    ---------
    paths : list of str
        The files.
    n_threads : int or None
        None takes one per core.
    **options : dict
        Those of ``check_audio``.

    Returns
    -------
    accepted : list of AudioFile
        In the order of the paths.
    excluded : list of Excluded
        Likewise.

    Raises
    ------
    UserError
        An unknown ``check``.
    """
    check_name(options.get("check", "headers"))
    # Decoding and file access release the interpreter's lock.
    with ThreadPoolExecutor(n_threads or os.cpu_count()) as pool:
        results = list(
            tqdm(
                pool.map(lambda path: check_audio(path, **options), paths),
                total=len(paths),
                desc="Checking audio",
                dynamic_ncols=True,
            )
        )
    accepted = [r for r in results if isinstance(r, AudioFile)]
    excluded = [r for r in results if isinstance(r, Excluded)]
    return accepted, excluded
