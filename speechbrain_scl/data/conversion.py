"""Recordings of any format as the files that the recipes read."""

import math
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_scl.data.audio import (
    CONVERTIBLE,
    READABLE,
    SILENCE_PEAK,
    Excluded,
    check_audio,
)
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError

SAMPLE_RATE = 16000
_WHOLE = (0.0, math.inf)
# Seconds by which a segment may end after its recording, as in Kaldi: its
# times are rounded.
_OVERSHOOT = 0.5


def place(path, targets):
    """Links a recording that fits, or writes its parts as 16 kHz mono FLAC.

    Arguments
    ---------
    path : str
        The recording, of any format that ``read_recording`` reads.
    targets : dict
        Path without an ending -> (start, end) in seconds; end may be infinite.

    Returns
    -------
    dict
        Target -> "linked", "converted", or Excluded where it is of no use.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> signal = np.random.default_rng(0).normal(0, 0.1, 16000)
    >>> soundfile.write(folder / "a.wav", signal, 8000)
    >>> out = str(folder / "out")
    >>> place(str(folder / "a.wav"), {out: (0.5, 1.0)}) == {out: "converted"}
    True
    >>> soundfile.read(out + ".flac")[0].shape
    (8000,)
    """
    judged = check_audio(path, SAMPLE_RATE)
    excluded = isinstance(judged, Excluded)
    # What one library cannot read another may.
    if excluded and judged.reason not in (*CONVERTIBLE, "unreadable"):
        return dict.fromkeys(targets, judged)
    try:
        read = read_recording(path, SAMPLE_RATE)
    except UserError as error:
        said = str(error).removeprefix(f"{path}: ")
        return dict.fromkeys(targets, Excluded(path, "unreadable", said))
    # A name may promise another format than the file has.
    fits = (
        not excluded
        and path.lower().endswith(READABLE)
        and soundfile.info(path).format in ("WAV", "WAVEX", "FLAC")
    )
    return {
        target: _part(read, span, target, fits and span == _WHOLE)
        for target, span in targets.items()
    }


def _part(read, span, target, fits):
    start, end = span
    if end < math.inf and end > read.duration + _OVERSHOOT:
        return Excluded(
            read.name,
            "segment",
            f"from {start} s to {end} s of {read.duration:.2f} s",
        )
    stop = min(end * read.sample_rate, len(read.waveform))
    part = read.waveform[round(start * read.sample_rate) : round(stop)]
    if len(part) == 0 or np.abs(part).max() < SILENCE_PEAK:
        return Excluded(
            read.name, "silent", "nothing above -60 dB of full scale"
        )
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    if fits:
        link = Path(target + Path(read.name).suffix.lower())
        link.symlink_to(Path(read.name).absolute())
        return "linked"
    soundfile.write(f"{target}.flac", part, read.sample_rate)
    return "converted"
