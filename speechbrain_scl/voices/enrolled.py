"""Enrolled speakers on disk, and the model that enrolled them."""

import os
from typing import NamedTuple

import numpy as np
from filelock import FileLock

from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.files import atomic_write, read_npz

UNKNOWN = "unknown"  # what a speaker is called who is not enrolled
_PARTS = ("model", "names", "embeddings", "recordings", "lengths")


class Enrolled(NamedTuple):
    """An enrolled speaker: the mean of some recordings' embeddings, and the
    length that it had before it became 1."""

    embedding: np.ndarray  # [D]
    recordings: int
    length: float = 1.0

    def with_more(self, vectors):
        """The speaker as if enrolled with further recordings too."""
        total = self.recordings * self.length * self.embedding.astype(float)
        count = self.recordings + len(vectors)
        mean = (total + np.sum(vectors, axis=0)) / count
        length = float(np.linalg.norm(mean))
        return Enrolled((mean / length).astype(np.float32), count, length)


def locked(path):
    """A lock: while it is held, no other process changes a store."""
    folder, name = os.path.split(os.path.realpath(path))
    return FileLock(os.path.join(folder, f".{name}.lock"))


def check_name(name):
    """Refuses what no voice can be called; a name is printed, so that it has
    no control characters."""
    text = isinstance(name, str) and name.strip() and name.isprintable()
    if not text or name == UNKNOWN:
        raise UserError(f"{name!r}: not a name for a voice")


def save_voices(path, model, voices):
    """Writes the key of a model and its voices, name -> Enrolled, as npz.

    Example
    -------
    >>> path = getfixture("tmp_path") / "voices.npz"
    >>> save_voices(path, "key", {"ann": Enrolled(np.ones(1), 2)})
    >>> load_voices(path)
    ('key', {'ann': Enrolled(embedding=array([1.]), recordings=2, length=1.0)})
    """
    vectors, counts, lengths = zip(*voices.values()) if voices else ((),) * 3
    vectors = np.stack(vectors) if voices else np.zeros((0, 0))
    arrays = model, np.array([*voices], str), vectors
    arrays += np.array(counts, int), np.array(lengths, float)
    with atomic_write(path, binary=True) as file:
        np.savez(file, **dict(zip(_PARTS, arrays)))


def load_voices(path):
    """Reads what ``save_voices`` wrote: the model's key, and name -> Enrolled.
    A part that is not as it writes it is refused."""
    if not os.path.isfile(path):
        raise UserError(
            f"{path}: there is no such store of voices; `speechbrain-scl "
            "enrol` makes one"
        )
    try:
        model, names, vectors, counts, lengths = read_npz(path, *_PARTS)
        _check_parts(model, names, vectors, counts, lengths)
    except Exception as error:
        # Whatever a damaged or foreign file makes NumPy and its zip reader
        # raise
        raise UserError(
            f"{path}: not a store of voices ({first_line(error)})"
        ) from error
    voices = map(Enrolled, vectors, counts.tolist(), lengths.tolist())
    return str(model), dict(zip(names.tolist(), voices))


def _check_parts(model, names, vectors, counts, lengths):
    """Raises ValueError where a part is not as ``save_voices`` writes it."""
    if not names.shape == counts.shape == lengths.shape == vectors.shape[:1]:
        raise ValueError("its parts differ in length")
    kinds = "".join(x.dtype.kind for x in (model, names, vectors, lengths))
    if kinds != "UUff" or counts.dtype.kind not in "iu" or vectors.ndim != 2:
        raise ValueError("its parts have other types")
    if len(set(names.tolist())) < len(names):
        raise ValueError("a name comes twice")
    for name in names.tolist():
        check_name(name)
    if (counts < 1).any() or not ((0 < lengths) & (lengths < 1.01)).all():
        raise ValueError("numbers of recordings or lengths that are none")
    norms = np.linalg.norm(vectors, axis=1)
    if not np.allclose(norms, 1, atol=1e-3):
        raise ValueError("a voice's embedding has not the length 1")
