"""Noise and rooms out of random numbers."""

import numpy as np
from scipy.signal import lfilter


def room(rng, sample_rate=16000):
    """A room impulse response: direct sound and a tail that decays.

    Arguments
    ---------
    rng : numpy.random.Generator
        Draws the decay (0.1 to 0.4 s to -60 dB), the tail and its level.
    sample_rate : int
        In Hz.

    Returns
    -------
    numpy.ndarray
        [0.4 s], at most 1.

    Example
    -------
    >>> response = room(np.random.default_rng(0))
    >>> response.shape, float(np.abs(response).max())
    ((6400,), 1.0)
    """
    decay = rng.uniform(0.1, 0.4)  # seconds to -60 dB
    time = np.arange(int(0.4 * sample_rate)) / sample_rate
    tail = rng.normal(size=len(time)) * np.exp(-6.9 * time / decay)
    tail *= rng.uniform(0.2, 0.6) / np.linalg.norm(tail)
    tail[0] += 1.0
    return tail / np.abs(tail).max()


def noise(rng, seconds, sample_rate=16000):
    """Coloured noise between white and brown.

    Arguments
    ---------
    rng : numpy.random.Generator
        Draws the noise and its colour.
    seconds : float
        Its length.
    sample_rate : int
        In Hz.

    Returns
    -------
    numpy.ndarray
        [seconds * sample_rate], at most 1.

    Example
    -------
    >>> noise(np.random.default_rng(0), 0.5).shape
    (8000,)
    """
    white = rng.normal(size=int(seconds * sample_rate))
    coloured = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.98)], white)
    return coloured / np.abs(coloured).max()
