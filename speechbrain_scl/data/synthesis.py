"""Noise and rooms out of random numbers."""

import os

import numpy as np
import soundfile
from scipy.signal import lfilter

from speechbrain_scl.files import atomic_folder


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


def synthesise(folder, kind, seed, sample_rate=16000, count=50):
    """Fills a folder with noises of four seconds or with room responses,
    unless it is there; it appears when all are written.

    Arguments
    ---------
    folder : str
        For files of 16 bits.
    kind : str
        ``noise`` or ``rir``.
    seed : int
        The same one gives the same files.
    sample_rate : int
        In Hz.
    count : int
        How many.
    """
    if os.path.isdir(folder):
        return
    rng = np.random.default_rng([seed, ("noise", "rir").index(kind)])
    with atomic_folder(folder) as aside:
        for i in range(count):
            if kind == "noise":
                signal = 0.3 * noise(rng, 4.0, sample_rate)
            else:
                signal = room(rng, sample_rate)
            path = os.path.join(aside, f"{i:03d}.wav")
            soundfile.write(path, signal, sample_rate, subtype="PCM_16")
