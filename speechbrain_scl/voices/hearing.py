"""A recording as a model hears it."""

import dataclasses
import math

import numpy as np
import torch
from tqdm import tqdm

from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.voices.speech import find_speech, without_long_pauses

# Seconds: below, an encoder's kernels do not fit; a voice says little.
_SHORTEST = 0.1
_LITTLE_SPEECH = 1.0
# Peak, of full scale: below, 16 bits have fewer than a hundred steps for it.
_QUIET = 100 / 2**15
# Of the power, above 5 kHz: real recordings of 16 kHz have at least 5e-5, what
# went through 8 kHz at most 4e-7.
_NARROW = 5e-6
_WINDOW = 60.0  # seconds that are embedded at a time
# Seconds of the windows, and how many of them at most, that are compared with
# each other
_PART, _PARTS = 5.0, 12


@dataclasses.dataclass(frozen=True)
class Heard:
    """A recording that a model has heard: its unit embedding, float32 [D],
    seconds of sound and of speech, what was done to fit the model, and what
    makes the embedding doubtful. ``agreement`` is the cosine of the two groups
    into which its parts fall, low where several speak; None below 20 s.
    ``taken`` are the seconds that the embedding is of."""

    name: str
    embedding: np.ndarray
    duration: float
    speech: float
    change: str = ""
    warnings: tuple = ()
    agreement: float | None = None
    taken: float = math.nan


def hear(encoder, source, progress=False):
    """Reads, judges and embeds a recording, as ``read_recording`` takes it;
    refuses one that is silent or below 0.1 s.

    Speech is embedded without the long pauses around it; a recording in which
    none is found is embedded whole. Of more than a minute, the embedding is
    the mean of those of equal windows, so that memory does not grow with them.
    """
    read = read_recording(source, encoder.sample_rate)
    name, waveform, rate = read.name, read.waveform, read.sample_rate
    peak = _peak(waveform)
    if peak == 0:
        raise UserError(f"{name}: it is silent")
    if read.duration < _SHORTEST:
        raise UserError(
            f"{name}: {read.duration:.3f} s; no voice is known from less "
            f"than {_SHORTEST} s"
        )
    found = find_speech(waveform, rate)
    speech = sum(end - start for start, end in found)
    warnings = []
    if read.missing:
        warnings.append(f"cut off: {read.missing} missing")
    if peak < _QUIET:
        warnings.append(f"very quiet: its peak is {peak:.1e} of full scale")
    if not found:
        warnings.append(f"no speech in its {read.duration:.1f} s")
    else:
        if speech < _LITTLE_SPEECH:
            warnings.append(
                f"only {speech:.2f} s of speech; scores of less than "
                f"{_LITTLE_SPEECH:.0f} s say little"
            )
        waveform = without_long_pauses(waveform, rate, found)
        if len(waveform) < len(read.waveform) / 2:
            warnings.append(
                f"{speech:.1f} s of speech in its {read.duration:.1f} s; the "
                "pauses are left out"
            )
        if _is_narrow(waveform, rate):
            warnings.append("nothing above 4 kHz, as by telephone")
    # Far below full scale an encoder's features would meet their floor. To
    # multiply by a power of two rounds nothing.
    _, exponent = np.frexp(_peak(waveform))
    if not -4 < exponent <= 1:
        np.ldexp(waveform, -exponent, out=waveform)
    return Heard(
        name,
        _embed(encoder, name, waveform, progress),
        read.duration,
        speech,
        read.change,
        tuple(f"{name}: {warning}" for warning in warnings),
        _agreement(encoder, name, waveform),
        len(waveform) / rate,
    )


def _peak(waveform):
    return max(waveform.max(), -waveform.min())  # without a copy


def _windows(waveform, sample_rate):
    seconds = len(waveform) / sample_rate
    return np.array_split(waveform, math.ceil(seconds / _WINDOW))


def _is_narrow(waveform, sample_rate):
    """Whether it was recorded or sent at 8 kHz, whatever its rate is now."""
    if sample_rate < 12000:
        return False
    power, hann = 0, torch.hann_window(512)
    for window in map(torch.from_numpy, _windows(waveform, sample_rate)):
        spectra = torch.stft(window, 512, window=hann, return_complex=True)
        power = power + spectra.abs().square().sum(1)
    above = round(5000 / sample_rate * 512)
    return bool(power[above:].sum() < _NARROW * power.sum())


def _agreement(encoder, name, waveform):
    """The cosine of the two groups of windows that differ most."""
    size = round(_PART * encoder.sample_rate)
    starts = range(0, len(waveform) - size, size)
    if len(starts) < 4:
        return None
    starts = starts[:: -(-len(starts) // _PARTS)]
    parts = np.stack([waveform[start : start + size] for start in starts])
    vectors = _vectors(encoder, name, parts)
    cosines = vectors @ vectors.T
    seeds = np.unravel_index(cosines.argmin(), cosines.shape)
    nearer = cosines[seeds[0]] >= cosines[seeds[1]]
    if nearer.all():  # all are alike
        return 1.0
    first, second = vectors[nearer].sum(0), vectors[~nearer].sum(0)
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths)


def _embed(encoder, name, waveform, progress):
    """The unit embedding [D] of a waveform [time]."""
    windows = _windows(waveform, encoder.sample_rate)
    shown = None if progress and len(windows) > 5 else True
    mean = 0
    for window in tqdm(windows, desc=name, disable=shown, leave=False):
        mean = mean + len(window) * _vectors(encoder, name, window[None])[0]
    return mean / np.linalg.norm(mean)


def _vectors(encoder, name, waveforms):
    """Unit embeddings [N, D] of waveforms [N, time] that are not too long."""
    try:
        with torch.inference_mode():
            vectors = encoder(torch.from_numpy(waveforms))
    except RuntimeError as error:  # out of memory, most of all
        seconds = waveforms.size / encoder.sample_rate
        raise UserError(
            f"{name}: the model cannot take its {seconds:.1f} s "
            f"({first_line(error)})"
        ) from error
    vectors = vectors.cpu().float().numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise UserError(f"{name}: its embedding is zero or not finite")
    return vectors / lengths
