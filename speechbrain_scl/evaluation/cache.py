"""The cache of embeddings while it grows: a file, and parts beside it."""

import shutil
import time
from pathlib import Path

from speechbrain_scl.distributed import rank
from speechbrain_scl.evaluation.store import read_cache, write_cache

SAVE_SECONDS = 30  # between two parts


class GrowingCache:
    """Embeddings by key. What is new is saved in parts: each appears whole or
    not at all, no process touches another's, and a run that is killed leaves
    them to the next, whatever its number of processes.

    Arguments
    ---------
    path : str or None
        The .npz file; its parts lie in the folder ``<path>.parts``. With None
        nothing is saved.

    Example
    -------
    >>> import os
    >>> import numpy as np
    >>> path = str(getfixture("tmp_path") / "cache.npz")
    >>> cache = GrowingCache(path)
    >>> cache.add({b"k" * 32: np.ones(2, dtype=np.float32)})
    >>> cache.save()
    >>> os.path.exists(path), list(GrowingCache(path).known.values())
    (False, [array([1., 1.], dtype=float32)])
    >>> cache.join()
    >>> os.listdir(os.path.dirname(path))
    ['cache.npz']
    """

    def __init__(self, path):
        self.path = path
        self.known = read_cache(path)
        self.new = {}
        self._unsaved = {}
        self._saved = time.monotonic()
        if path:
            self._folder = Path(f"{path}.parts")
            for part in sorted(self._folder.glob("*.npz")):
                self.known.update(read_cache(str(part)))

    def add(self, vectors):
        """Takes in embeddings and saves now and then.

        Arguments
        ---------
        vectors : dict
            Key (32 bytes) -> numpy.ndarray [dim].
        """
        self.known.update(vectors)
        self.new.update(vectors)
        self._unsaved.update(vectors)
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self):
        """Writes what no part holds yet."""
        self._saved = time.monotonic()
        if self.path and self._unsaved:
            part = self._folder / f"{time.time_ns()}-{rank()}.npz"
            write_cache(str(part), self._unsaved)
            self._unsaved = {}

    def join(self):
        """Makes one file of all that is known; one process does."""
        if self.path and self._folder.is_dir():
            write_cache(self.path, self.known)
            shutil.rmtree(self._folder)
