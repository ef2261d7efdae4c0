"""Checkpoints that are complete or not there, and hold all of a run's state."""

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time
import zlib

import numpy as np
import torch
import torch.distributed as dist

from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME, Checkpointer
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain_scl.distributed import rank, world_size
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line

_PARTIAL = f"{METAFNAME}.partial"
_SUMS = "checksums.json"
# What torch.save says where nothing more can be written
_WRITE_ERRORS = ("PytorchStreamWriter", "unexpected pos", "write failed")


class CompleteCheckpointer(Checkpointer):
    """SpeechBrain's checkpointer, safe from interruption and damage: the meta
    file, by which SpeechBrain knows a checkpoint, gets its name last; what an
    interruption left goes with the next checkpoint; checksums tell a damaged
    file. The latest is the one saved last, whatever the clock says."""

    def save_checkpoint(self, meta=None, *args, **kwargs):
        """As SpeechBrain's; an error leaves the earlier ones as they were."""
        try:
            if if_main_process():
                self._remove_partial()
                known = [c.meta["unixtime"] for c in self.list_checkpoints()]
                latest = max([time.time(), *(t + 0.001 for t in known)])
                meta = {"unixtime": latest, **(meta or {})}
            checkpoint = super().save_checkpoint(meta or {}, *args, **kwargs)
            if checkpoint is not None:
                _complete(checkpoint.path)
        except (OSError, RuntimeError) as error:
            if not isinstance(error, OSError) and not any(
                words in str(error) for words in _WRITE_ERRORS
            ):
                raise
            self._remove_partial()
            raise UserError(
                f"{self.checkpoints_dir}: no checkpoint could be written "
                f"({first_line(error)}); the one before is intact: "
                "make room or allow writing there, and start again"
            ) from error
        ddp_barrier()
        return checkpoint

    def load_checkpoint(self, checkpoint):
        """As SpeechBrain's, of files that are whole and hold no code."""
        check_sums(checkpoint.path)
        try:
            super().load_checkpoint(checkpoint)
        except UNLOADABLE as error:
            raise UserError(
                f"{checkpoint.path}: cannot be loaded ({first_line(error)}); "
                "if the model's settings have changed, choose another "
                "output_folder; if it is damaged, delete this checkpoint and "
                "start again from the one before"
            ) from error

    def list_checkpoints(self):
        """As SpeechBrain's, of meta files that are not damaged. Where there is
        none, a kill left a checkpoint half written or half deleted."""
        for path in self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*/{METAFNAME}"):
            check_sums(path.parent, [METAFNAME])
        return super().list_checkpoints()

    def _save_checkpoint_metafile(self, path, *args, **kwargs):
        partial = path.with_name(_PARTIAL)
        return super()._save_checkpoint_metafile(partial, *args, **kwargs)

    def _remove_partial(self):
        if if_main_process():
            for folder in self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*"):
                if not (folder / METAFNAME).exists():
                    shutil.rmtree(folder, ignore_errors=True)


def _complete(folder):
    """Writes the checksums, and gives the meta file its name."""
    sums = {p.name: zlib.crc32(p.read_bytes()) for p in folder.iterdir()}
    sums[METAFNAME] = sums.pop(_PARTIAL)
    (folder / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
    for path in folder.iterdir():
        _to_disk(path)
    os.replace(folder / _PARTIAL, folder / METAFNAME)
    _to_disk(folder)


def check_sums(folder, names=None):
    """Refuses a checkpoint whose files (those named, or all) are not what was
    written; one without checksums passes."""
    path = folder / _SUMS
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
        for name in sums if names is None else names:
            if zlib.crc32((folder / name).read_bytes()) != sums[name]:
                raise ValueError(f"{name} differs from what was written")
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        if not path.exists():  # or another process is just deleting it
            return
        why = first_line(error)
        if isinstance(error, FileNotFoundError):
            why = f"{error.filename} is gone"
        raise UserError(
            f"{folder}: the checkpoint is damaged ({why}); delete this folder "
            "and start again from the one before"
        ) from error


def _to_disk(path):
    with contextlib.suppress(PermissionError):  # where that can be asked
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


class RandomState:
    """The state of every random number generator, of every process, for the
    checkpointer. It is restored at once after an end of epoch. Within one the
    data loader draws a number when its iteration starts anew, so the state
    waits for ``resume``, before the next batch."""

    _waiting = None

    def save(self, path):
        """Writes the states; every process takes part."""
        name, keys, *rest = np.random.get_state()
        cuda = torch.cuda.is_initialized()
        state = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if cuda else None,
            "numpy": [name, keys.tolist(), *rest],
            "python": random.getstate(),
        }
        states = [state] * world_size()
        if world_size() > 1:
            dist.all_gather_object(states, state)
        if if_main_process():
            torch.save(states, path)

    def load(self, path, end_of_epoch):
        """Reads this process's state; restores it at an end of epoch."""
        states = torch.load(path, weights_only=True)
        # More processes than before have streams of their own already.
        self._waiting = states[rank()] if rank() < len(states) else None
        if end_of_epoch:
            self.resume()

    def resume(self):
        """Restores a state that waits."""
        if self._waiting is None:
            return
        state, self._waiting = self._waiting, None
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        np.random.set_state(state["numpy"])
        random.setstate(state["python"])


class Interruption:
    """Remembers a first SIGINT (Ctrl-C) or SIGTERM until the training can stop;
    a second one does what it always did."""

    signal = 0
    _before = ()

    def __enter__(self):
        # Python delivers signals to the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = [
                (number, signal.signal(number, self._remember))
                for number in (signal.SIGINT, signal.SIGTERM)
            ]
        return self

    def __exit__(self, *error):
        for number, handler in self._before:
            signal.signal(number, handler)
        self._before = ()

    def _remember(self, number, frame):
        self.signal = number
        self.__exit__()
