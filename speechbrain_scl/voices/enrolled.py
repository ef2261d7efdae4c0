"""Enrolled speakers on disk, and the model that enrolled them."""

import os
from typing import NamedTuple

import numpy as np

from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.files import atomic_write


class Enrolled(NamedTuple):
    """An enrolled speaker.

    Arguments
    ---------
    embedding : numpy.ndarray
        [D], unit length: the mean of the recordings' embeddings.
    recordings : int
        How many these were.
    """

    embedding: np.ndarray
    recordings: int


def save_voices(path, model, voices):
    """Writes voices as npz: ``model``, ``names``, ``embeddings``,
    ``recordings``.

    Arguments
    ---------
    path : str
        The file.
    model : str
        The key of the model that made them (``Encoder.key``).
    voices : dict
        Name -> Enrolled.

    Example
    -------
    >>> path = getfixture("tmp_path") / "voices.npz"
    >>> save_voices(path, "key", {"ann": Enrolled(np.ones(1), 2)})
    >>> load_voices(path)
    ('key', {'ann': Enrolled(embedding=array([1.]), recordings=2)})
    """
    vectors = [voice.embedding for voice in voices.values()]
    with atomic_write(path, binary=True) as file:
        np.savez(
            file,
            model=np.array(model),
            names=np.array(list(voices), dtype=str),
            embeddings=np.stack(vectors) if vectors else np.zeros((0, 0)),
            recordings=np.array([v.recordings for v in voices.values()], int),
        )


def load_voices(path):
    """Reads what ``save_voices`` wrote.

    Arguments
    ---------
    path : str
        The file.

    Returns
    -------
    model : str
        The key of the model that made them.
    voices : dict
        Name -> Enrolled.

    Raises
    ------
    UserError
        No such file, or one of another kind.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"{path}: there is no such store of voices; `speechbrain-scl "
            "enrol` makes one"
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, vectors, counts = (
                stored[key] for key in ("names", "embeddings", "recordings")
            )
            model = str(stored["model"])
        if not len(names) == len(vectors) == len(counts):
            raise ValueError("its parts differ in length")
        if not np.isfinite(vectors).all():
            raise ValueError("a voice is not finite")
    except Exception as error:
        # Whatever a damaged or foreign file makes NumPy and its zip reader
        # raise
        raise UserError(
            f"{path}: not a store of voices ({first_line(error)})"
        ) from error
    voices = map(Enrolled, vectors, counts.tolist())
    return model, dict(zip(names.tolist(), voices))
