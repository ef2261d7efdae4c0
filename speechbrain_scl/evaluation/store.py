"""Embeddings on disk: by name for others, by content for the next run."""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import rank
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.files import atomic_write, read_npz

logger = get_logger(__name__)

# In an inference folder: the objective and the data of its training
DESCRIPTION = "training.json"
SAVE_SECONDS = 30  # between two parts of a cache


def save_embeddings(path, embeddings, model=""):
    """Writes embeddings by name: .npz has ``ids`` (text), ``embeddings`` (float32
    [N, dim]) and the key of the ``model``; .ark or .scp are Kaldi's, both."""
    root, ending = os.path.splitext(path)
    if ending == ".npz":
        ids, vectors = list(embeddings), np.stack(list(embeddings.values()))
        vectors = vectors.astype(np.float32)
        with atomic_write(path, binary=True) as file:
            np.savez(file, ids=ids, embeddings=vectors, model=model)
        return
    if ending not in (".ark", ".scp"):
        raise UserError(f"{path}: end it in .npz, .ark or .scp")
    try:
        from kaldiio import save_ark
    except ImportError as error:
        raise UserError(
            f"{root}.ark: Kaldi's format needs kaldiio: pip install kaldiio"
        ) from error
    spaced = next((n for n in embeddings if len(n.split()) != 1), None)
    if spaced is not None:
        raise UserError(
            f"{root}.ark: Kaldi's names hold no blanks, {spaced!r} does: "
            "rename it, or end the file in .npz"
        )
    with (
        atomic_write(f"{root}.scp") as scp,
        atomic_write(f"{root}.ark", binary=True) as ark,
    ):
        for name, vector in embeddings.items():
            place = ark.tell() + len(f"{name} ".encode())
            save_ark(ark, {name: vector})
            scp.write(f"{name} {root}.ark:{place}\n")


def load_embeddings(path, model=None):
    """Reads what ``save_embeddings`` wrote as .npz: name -> [dim]; refuses
    those of another model than the one whose key is given."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file of embeddings")
    try:
        ids, vectors = read_npz(path, "ids", "embeddings")
        kinds = ids.dtype.kind, vectors.dtype, vectors.ndim, vectors.shape[:1]
        if kinds != ("U", np.float32, 2, ids.shape):
            raise ValueError(f"embeddings {vectors.shape} of ids {ids.shape}")
        if len(np.unique(ids)) < len(ids) or not np.isfinite(vectors).all():
            raise ValueError("ids that come twice, or values not finite")
    except Exception as error:
        # A damaged file makes NumPy and its zip reader raise all kinds.
        raise UserError(
            f"{path}: no file of embeddings, or a damaged one "
            f"({first_line(error)})"
        ) from error
    with contextlib.suppress(KeyError):  # of a file that does not say it
        (made_by,) = read_npz(path, "model") if model else ("",)
        if str(made_by) not in ("", str(model)):
            raise UserError(f"{path}: embeddings of another model")
    return dict(zip(ids.tolist(), vectors))


class EmbeddingCache:
    """The embeddings of one model by the content of their audio.

    What is new is saved in parts: each appears whole or not at all, and a run
    that is killed leaves them to the next, whatever its number of processes.
    What cannot be read is computed anew. ``model`` is what an embedding depends
    on but for the audio; without a folder nothing is saved."""

    def __init__(self, folder, *model):
        self._model = model
        self._path = folder and Path(folder, f"{self.key()[:32]}.npz")
        self._unsaved = {}
        self._saved = time.monotonic()
        self.known = {}
        for path in self._files():
            try:
                self.known.update(load_embeddings(str(path)))
            except UserError as error:  # a cache is only ever a saving
                logger.warning("%s: they are computed anew", error)

    def key(self, *content):
        """What the embedding of files with these digests is found by."""
        text = json.dumps([self._model, content])
        return hashlib.sha256(text.encode()).hexdigest()

    def add(self, vectors):
        """Takes in embeddings by key, and saves them now and then."""
        self.known.update(vectors)
        self._unsaved.update(vectors)
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self):
        """Writes what no part holds yet."""
        self._saved = time.monotonic()
        if self._path and self._unsaved:
            part = f"{self._path.stem}-{time.time_ns()}-{rank()}.npz"
            save_embeddings(str(self._path.with_name(part)), self._unsaved)
            self._unsaved = {}

    def join(self):
        """Makes one file of all parts; one process does, once all have saved."""
        parts = [path for path in self._files() if path != self._path]
        if parts:
            whole = EmbeddingCache(self._path.parent, *self._model)
            save_embeddings(str(self._path), whole.known)
        for part in parts:
            part.unlink()

    def _files(self):
        if not self._path:
            return []
        return sorted(self._path.parent.glob(f"{self._path.stem}*.npz"))


def folder_digest(folder):
    """SHA-256 over the names and contents of an inference folder's files, but
    for its card and ONNX files: they come later, and change nothing."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".onnx"):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(file_digest(path).encode())
    return digest.hexdigest()


def file_digest(path):
    """SHA-256 of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_description(folder):
    """What an inference folder says of its training; empty where nothing."""
    path = os.path.join(folder, DESCRIPTION)
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not what a training run leaves ({error}); remove it, or "
            "save the inference folder again"
        ) from error
