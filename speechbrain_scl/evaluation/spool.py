"""Rows of a list that may be longer than the memory."""

import tempfile

import numpy as np


class Spool:
    """Rows of one type, added and read block by block. What is beyond 64 MiB
    goes to a file without a name, which the system takes back in any event.

    Arguments
    ---------
    dtype : numpy.dtype or str
        Of a row.
    folder : str or None
        Where such a file may lie; None takes the system's temporary folder,
        which may itself be memory.

    Example
    -------
    >>> rows = Spool("<i4")
    >>> rows.append([1, 2, 3])
    >>> rows.append([4])
    >>> [block.tolist() for block in rows.blocks(3)], len(rows)
    ([[1, 2, 3], [4]], 4)
    """

    BLOCK = 2**17  # rows at a time
    IN_MEMORY = 2**26  # bytes

    def __init__(self, dtype, folder=None):
        self.dtype = np.dtype(dtype)
        self._file = tempfile.SpooledTemporaryFile(self.IN_MEMORY, dir=folder)
        self._n = 0

    def __len__(self):
        return self._n

    def append(self, rows):
        """Adds rows at the end.

        Arguments
        ---------
        rows : array
            [n], of the type.
        """
        rows = np.asarray(rows, dtype=self.dtype)
        self._file.seek(0, 2)
        self._file.write(rows.tobytes())
        self._n += len(rows)

    def blocks(self, size=None):
        """Reads all rows in order.

        Arguments
        ---------
        size : int or None
            Rows at a time; None takes ``BLOCK``.

        Yields
        ------
        numpy.ndarray
            [at most size], not to be written to.
        """
        size = (size or self.BLOCK) * self.dtype.itemsize
        for start in range(0, self._n * self.dtype.itemsize, size):
            self._file.seek(start)
            yield np.frombuffer(self._file.read(size), self.dtype)

    def whole(self):
        """All rows in memory.

        Returns
        -------
        numpy.ndarray
            [n].
        """
        return np.concatenate(
            [np.empty(0, self.dtype), *self.blocks()], dtype=self.dtype
        )
