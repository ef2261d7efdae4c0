"""Where in a recording is speech."""

import functools
import threading

import numpy as np
import torch

from speechbrain_scl.data.recordings import resample

_RATE = 16000  # the detector's, Hz
# Root mean square of the level at which it hears quiet recordings as well
_LEVEL = 0.05
# Its own 0.5 misses some synthetic and disguised voices; noises and tones stay
# below either.
_THRESHOLD = 0.2
_PAUSE = 1.0  # seconds between words that speech may have
_BLOCK = 600  # seconds that are heard at a time
_LOCK = threading.Lock()


def find_speech(waveform, sample_rate):
    """Where Silero's detector finds speech, [(start, end)] in seconds, at any
    level of the waveform [time]. Right from any thread."""
    waveform = resample(waveform, sample_rate, _RATE)
    found, size = [], _BLOCK * _RATE
    for first in range(0, len(waveform), size):
        block = waveform[first : first + size]
        level = np.sqrt(np.mean(block**2, dtype=np.float64))
        if level > 0:
            block = (block * np.float32(_LEVEL / level)).clip(-1, 1)
            found += [
                ((first + part["start"]) / _RATE, (first + part["end"]) / _RATE)
                for part in _detect(torch.from_numpy(block))
            ]
    return found


def _detect(waveform):
    # The detector remembers what it heard last: one recording at a time. Its
    # steps are too small for threads, which would only wait for each other.
    with _LOCK, torch.inference_mode():
        threads = torch.get_num_threads()
        try:
            model, find = _detector()
            torch.set_num_threads(1)
            return find(
                waveform,
                model,
                threshold=_THRESHOLD,
                min_speech_duration_ms=100,
                speech_pad_ms=0,
                sampling_rate=_RATE,
            )
        finally:
            torch.set_num_threads(threads)


@functools.cache
def _detector():
    # Importing it sets PyTorch's threads to one, for everybody.
    from silero_vad import get_speech_timestamps, load_silero_vad

    return load_silero_vad(), get_speech_timestamps


def without_long_pauses(waveform, sample_rate, speech):
    """A waveform without the stretches of above a second in which nobody
    speaks: an encoder averages over all that it gets, silence too. Works in
    place, as recordings may be long.

    Example
    -------
    >>> wave = np.arange(60)  # at 10 Hz
    >>> without_long_pauses(wave, 10, [(2.0, 2.5), (3.0, 3.5)])
    array([20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34])
    """
    length, last = 0, 0.0  # of what stays, and where it ends
    ends = [*speech, (len(waveform) / sample_rate,) * 2]
    for start, end in ends:
        first = last if start - last <= _PAUSE else start
        part = waveform[round(first * sample_rate) : round(end * sample_rate)]
        waveform[length : length + len(part)] = part
        length, last = length + len(part), end
    return waveform[:length]
