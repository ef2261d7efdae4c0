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
    """An enrolled speaker: the mean [D] of the embeddings of some recordings,
    and the length that it had before it became 1."""

    embedding: np.ndarray
    recordings: int
    length: float = 1.0

    def with_more(self, vectors):
        """The speaker as if enrolled with further recordings [N, D] too."""
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
    """Writes the key of a model and its voices, name -> Enrolled, as npz."""
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
        kinds = "".join(x.dtype.kind for x in (model, names, vectors, lengths))
        if not (
            (kinds, counts.dtype.kind, vectors.ndim) == ("UUff", "i", 2)
            and names.shape == counts.shape == lengths.shape
            and len(names) == len(vectors) == len({*names.tolist()})
            and (counts > 0).all()
            and ((0 < lengths) & (lengths < 1.01)).all()
            and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        ):
            raise ValueError("its parts are not as they were written")
        for name in names.tolist():
            check_name(name)
    except Exception as error:
        # Whatever a damaged or foreign file makes NumPy and its zip reader
        # raise
        raise UserError(
            f"{path}: not a store of voices ({first_line(error)})"
        ) from error
    voices = map(Enrolled, vectors, counts.tolist(), lengths.tolist())
    return str(model), dict(zip(names.tolist(), voices))
