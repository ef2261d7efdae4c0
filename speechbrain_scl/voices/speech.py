"""Where in a recording is speech."""

import contextlib
import functools

import numpy as np
import torch

from speechbrain_scl.data.recordings import resample

_RATE = 16000  # the detector's, Hz
# Root mean square of the level at which it hears quiet recordings as well
_LEVEL = 0.05
# Its own 0.5 misses some synthetic and disguised voices; noises and tones stay
# below either.
_THRESHOLD = 0.2


def speech_seconds(waveform, sample_rate):
    """Seconds of speech, as Silero's detector finds it.

    Arguments
    ---------
    waveform : numpy.ndarray
        float32 [time].
    sample_rate : int
        In Hz.

    Returns
    -------
    float

    Example
    -------
    >>> speech_seconds(np.zeros(16000, dtype=np.float32), 16000)
    0.0
    """
    model, find = _detector()
    waveform = resample(waveform, sample_rate, _RATE)
    level = np.sqrt(np.mean(waveform**2, dtype=np.float64))
    if level == 0:
        return 0.0
    waveform = (waveform * np.float32(_LEVEL / level)).clip(-1, 1)
    # Its steps are too small for threads, which would only wait for each other.
    with _one_thread(), torch.inference_mode():
        found = find(
            torch.from_numpy(waveform),
            model,
            threshold=_THRESHOLD,
            min_speech_duration_ms=100,
            sampling_rate=_RATE,
        )
    return sum(part["end"] - part["start"] for part in found) / _RATE


@functools.cache
def _detector():
    # Importing it sets PyTorch's threads to one, for everybody.
    with _one_thread():
        from silero_vad import get_speech_timestamps, load_silero_vad

        return load_silero_vad(), get_speech_timestamps


@contextlib.contextmanager
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
