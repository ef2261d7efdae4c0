"""Atomic writes: files and folders that have their name only when complete."""

import contextlib
import ctypes
import fcntl
import functools
import io
import json
import os
import shutil
import socket
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from speechbrain_scl.errors import UserError

# Locks are not seen from machine to machine on every shared file system.
_PREFIX = f".aside-{socket.gethostname()}-"

# Of Linux's renameat2
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def atomic_write(path, binary=False):
    """A file, written beside its name and moved there at the end; its folder is
    made. Text is UTF-8."""
    text = {} if binary else {"encoding": "utf-8", "newline": ""}
    with _aside(path) as (aside, path):
        with open(aside, "wb" if binary else "w", **text) as file:
            yield file
        os.replace(aside, path)


@contextlib.contextmanager
def atomic_folder(path):
    """A folder, filled beside its name; it replaces what has the name."""
    with _aside(path) as (aside, path):
        os.mkdir(aside)
        yield aside
        if not _exchange(aside, path):
            _replace_folder(aside, path)
        # What had the name now lies aside, and goes.


def write_json(path, content):
    """Writes a JSON file; a number that is not finite is an error."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_audio(path, signal, sample_rate):
    """Writes 16 bits in the format of the name's ending; a full disk is the
    error that it is, which libsndfile calls one of a coder."""
    import soundfile  # for those who write sound alone

    content = io.BytesIO()
    kind = Path(path).suffix[1:]
    soundfile.write(content, signal, sample_rate, "PCM_16", format=kind)
    with atomic_write(path, binary=True) as file:
        file.write(content.getbuffer())


def read_npz(path, *names):
    """Reads arrays, without objects, of a file as numpy.savez writes it, in
    which few bytes cannot hide many zeros. A damaged file raises whatever
    NumPy and its zip reader do."""
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > os.path.getsize(path):
        raise ValueError(f"its arrays would unpack to {size:,} bytes")
    with np.load(path, allow_pickle=False) as stored:
        return [stored[name] for name in names]


@contextlib.contextmanager
def only_run_in(folder):
    """Refuses a second run that would write into the same folder; the system
    takes the lock back from a process that is killed."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".running"), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"{folder}: {file.read().strip() or 'another process'} is "
                "running in this folder: wait for it, or choose another "
                "output_folder"
            ) from error
        except OSError:
            pass  # a file system without locks
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
        if not os.path.exists(file.name):
            raise UserError(
                f"{folder}: it was moved or removed while the run was writing "
                "there; run it again"
            )


def _exchange(first, second):
    """Swaps two names at once where the system can (Linux)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = [(_AT_FDCWD, os.fsencode(name)) for name in (first, second)]
    return rename and rename(*names[0], *names[1], _RENAME_EXCHANGE) == 0


def _replace_folder(aside, path):
    """In two steps, of which an error undoes the first."""
    if not os.path.lexists(path):
        return os.replace(aside, path)
    old = tempfile.mkdtemp(dir=os.path.dirname(path), prefix=".old-")
    os.replace(path, os.path.join(old, "it"))
    try:
        os.replace(aside, path)
    except BaseException:
        os.replace(os.path.join(old, "it"), path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _aside(path):
    """A name beside a path, and the path itself, where a link leads; what has
    the name is gone at the end.

    It lies in a folder that is locked as long as this process lives, so that a
    later one knows what a killed one has left, and removes it.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    _remove_left(folder)
    lock = None
    while lock is None:
        aside = tempfile.mkdtemp(dir=folder, prefix=_PREFIX)
        lock = _lock(aside)
    try:
        yield os.path.join(aside, "it"), path
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(lock)


def _lock(path):
    """A handle that locks it, or None where another process thought it left
    and removed it before it was locked."""
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(path):
            return handle
        os.close(handle)


@functools.cache
def _remove_left(folder):
    """Once per process, as what is left is of earlier ones."""
    for path in Path(folder).glob(f"{_PREFIX}*"):
        # It is another user's or gone, no folder, a living process has it, or
        # nobody can tell
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
