"""Short utterances, joined to longer ones."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_scl.data.scan import in_order
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_write

_AHEAD = 64  # groups that wait


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
    jobs : iterable of tuple
        Target path, list of source paths (mono and of one rate), and how many
        samples those have. A target that is there is trusted: targets appear
        only when they are complete. Few jobs are held at a time.

    Raises
    ------
    UserError
        Sources with another number of samples.
    """
    with (
        ThreadPoolExecutor() as pool,
        tqdm(
            desc="Joining short utterances", unit="file", dynamic_ncols=True
        ) as bar,
    ):
        for _ in in_order(pool, ((_write, *job) for job in jobs), _AHEAD):
            bar.update()


def _write(target, sources, samples):
    if os.path.isfile(target):
        return
    read = [soundfile.read(path, dtype="int16") for path in sources]
    signal = np.concatenate([part for part, _ in read])
    if len(signal) != samples:
        raise UserError(
            f"{', '.join(sources)}: {len(signal)} samples instead of the "
            f"{samples} of their headers; check_audio=full leaves such files "
            "out"
        )
    with atomic_write(target, binary=True) as file:
        soundfile.write(file, signal, read[0][1], format="FLAC")
