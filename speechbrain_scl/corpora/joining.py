"""Short utterances, joined to longer ones."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_scl.files import written_aside


def group_short(durations, least):
    """Which neighbouring utterances to join.

    Arguments
    ---------
    durations : list of float
        Seconds, of one speaker's utterances of one kind, in their order.
    least : float
        Seconds that a group should have.

    Returns
    -------
    list of list of int
        The utterances of each group. One that is long enough stays alone;
        what is left over at the end joins the last group of short ones.

    Example
    -------
    >>> group_short([2.0, 6.0, 2.0, 2.0, 1.0], least=5.0)
    [[1], [0, 2, 3, 4]]
    >>> group_short([1.0, 1.0], least=5.0)
    [[0, 1]]
    """
    alone = [[i] for i, d in enumerate(durations) if d >= least]
    groups, current, seconds = [], [], 0.0
    for i, duration in enumerate(durations):
        if duration < least:
            current.append(i)
            seconds += duration
            if seconds >= least:
                groups.append(current)
                current, seconds = [], 0.0
    if current:
        if groups:
            groups[-1].extend(current)
        else:
            groups.append(current)
    return alone + groups


def write_joined(jobs):
    """Writes each group of files as one FLAC file, in parallel.

    Arguments
    ---------
    jobs : dict
        Target path -> source paths, mono and of one rate. A target that is
        there is trusted: targets appear only when they are complete.

    Returns
    -------
    dict
        Target path -> samples.
    """
    with ThreadPoolExecutor() as pool:
        samples = tqdm(
            pool.map(_write, jobs, jobs.values()),
            total=len(jobs),
            desc="Joining short utterances",
            dynamic_ncols=True,
        )
        return dict(zip(jobs, samples))


def _write(target, sources):
    if os.path.isfile(target):
        return soundfile.info(target).frames
    read = [soundfile.read(path, dtype="int16") for path in sources]
    signal = np.concatenate([samples for samples, _ in read])
    with written_aside(target, binary=True) as file:
        soundfile.write(file, signal, read[0][1], format="FLAC")
    return len(signal)
