"""Embeddings on disk: by name for others, by content for the next run."""

import hashlib
import os
from pathlib import Path

import numpy as np

from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.files import atomic_write

logger = get_logger(__name__)

_KEY_BYTES = 32  # SHA-256


def save_embeddings(path, embeddings):
    """Writes embeddings by name, for other tools.

    Arguments
    ---------
    path : str
        .npz: ``ids`` (text) and ``embeddings`` (float32), read with
        ``numpy.load``; .ark or .scp: Kaldi's, both files (needs kaldiio).
    embeddings : dict
        Name -> numpy.ndarray [dim].

    Raises
    ------
    UserError
        Another ending, or kaldiio is missing.

    Example
    -------
    >>> path = str(getfixture("tmp_path") / "embeddings.npz")
    >>> save_embeddings(path, {"ann/1.wav": np.zeros(4, dtype=np.float32)})
    >>> with np.load(path) as stored:
    ...     stored["ids"], stored["embeddings"].shape
    (array(['ann/1.wav'], dtype='<U9'), (1, 4))
    """
    root, ending = os.path.splitext(path)
    if ending == ".npz":
        ids, vectors = list(embeddings), np.stack(list(embeddings.values()))
        _write_npz(path, ids=np.array(ids), embeddings=vectors)
    elif ending in (".ark", ".scp"):
        try:
            from kaldiio import WriteHelper
        except ImportError as error:
            raise UserError(
                f"{path}: Kaldi's format needs kaldiio: pip install kaldiio"
            ) from error
        with WriteHelper(f"ark,scp:{root}.ark,{root}.scp") as writer:
            for name, vector in embeddings.items():
                writer(name, vector)
    else:
        raise UserError(f"{path}: end it in .npz, .ark or .scp")


def load_embeddings(path):
    """Reads what ``save_embeddings`` wrote as .npz.

    Arguments
    ---------
    path : str
        The file.

    Returns
    -------
    dict
        Name -> numpy.ndarray [dim].

    Raises
    ------
    UserError
        No such file, or one of another kind.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file of embeddings")
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, vectors = stored["ids"].tolist(), stored["embeddings"]
    except Exception as error:
        # A damaged file makes NumPy and its zip reader raise all kinds.
        raise UserError(
            f"{path}: no file of embeddings, or a damaged one "
            f"({first_line(error)})"
        ) from error
    return dict(zip(ids, vectors))


def read_cache(path):
    """Reads what ``write_cache`` left.

    Arguments
    ---------
    path : str or None
        The file; it need not exist.

    Returns
    -------
    dict
        Key (32 bytes) -> numpy.ndarray [dim].
    """
    if not path or not os.path.isfile(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            keys, sizes, values = (
                stored[name] for name in ("keys", "sizes", "values")
            )
        _check_cache(keys, sizes, values)
    except Exception as error:
        # Whatever a damaged or foreign file makes NumPy and its zip reader
        # raise: a cache is only ever a saving.
        logger.warning(
            "%s: not a cache that can be used (%s); its embeddings are "
            "computed anew",
            path,
            first_line(error),
        )
        return {}
    vectors = np.split(values, sizes.cumsum()[:-1])
    return {key.tobytes(): vector for key, vector in zip(keys, vectors)}


def of_one_dimension(known, keys, path):
    """Cached embeddings, without those of a run if they do not agree.

    Arguments
    ---------
    known : dict
        Key -> numpy.ndarray [dim].
    keys : iterable of bytes
        Those of one model.
    path : str
        The cache, for the warning.

    Returns
    -------
    dict
    """
    keys = {key for key in keys if key in known}
    dimensions = {len(known[key]) for key in keys}
    if len(dimensions) < 2:
        return known
    logger.warning(
        "%s: embeddings of one model have the dimensions %s; all %d are "
        "computed anew",
        path,
        sorted(dimensions),
        len(keys),
    )
    return {key: known[key] for key in known if key not in keys}


def _check_cache(keys, sizes, values):
    """Raises ValueError where the parts do not belong together."""
    if keys.dtype != np.uint8 or keys.shape != (len(sizes), _KEY_BYTES):
        raise ValueError(f"keys {keys.dtype} {keys.shape}")
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError("sizes that are none")
    if values.dtype != np.float32 or values.shape != (sizes.sum(),):
        raise ValueError(f"{values.shape} values for sizes of {sizes.sum()}")
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite")


def write_cache(path, known):
    """Writes embeddings of any dimensions by their keys.

    Arguments
    ---------
    path : str
        The .npz file.
    known : dict
        Key (32 bytes) -> numpy.ndarray [dim].
    """
    if not known:
        return
    keys = np.frombuffer(b"".join(known), dtype=np.uint8)
    _write_npz(
        path,
        keys=keys.reshape(-1, _KEY_BYTES),
        sizes=np.array([len(vector) for vector in known.values()]),
        values=np.concatenate(list(known.values())),
    )


def folder_digest(folder):
    """SHA-256 over the names and contents of an inference folder's files.

    Arguments
    ---------
    folder : str
        Its model card and ONNX files do not count: they come later, and change
        nothing.

    Returns
    -------
    str

    Example
    -------
    >>> len(folder_digest(str(getfixture("tmp_path"))))
    64
    """
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".onnx"):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(file_digest(path).encode())
    return digest.hexdigest()


def file_digest(path):
    """SHA-256 of a file's content.

    Arguments
    ---------
    path : str
        The file.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _write_npz(path, **arrays):
    with atomic_write(path, binary=True) as file:
        np.savez(file, **arrays)
