"""Checkpoints are complete or not there, and hold every generator's state."""

import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from commands import files_of_at_most

from speechbrain_scl.errors import UserError
from speechbrain_scl.training.checkpoints import (
    CompleteCheckpointer,
    Interruption,
    RandomState,
)


@pytest.fixture
def layer():
    return torch.nn.Linear(2, 2)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    big = torch.nn.Linear(1000, 1000)
    checkpointer = CompleteCheckpointer(tmp_path, {"big": big})
    checkpointer.save_checkpoint()
    wanted = big.weight.detach().clone()
    torch.nn.init.zeros_(big.weight)
    with files_of_at_most(1 << 16), pytest.raises(UserError) as caught:
        checkpointer.save_and_keep_only()
    message = str(caught.value)
    assert f"{tmp_path}: no checkpoint could be written" in message
    assert "\n" not in message
    assert len(list(tmp_path.iterdir())) == 1
    checkpointer.recover_if_possible()
    assert torch.equal(big.weight, wanted)
    # A mistake in the program is no full disk.
    with pytest.raises(RuntimeError, match="Don't know how"):
        CompleteCheckpointer(tmp_path, {"a": object()}).save_checkpoint()


def test_what_a_kill_left_is_no_checkpoint(tmp_path, layer):
    checkpointer = CompleteCheckpointer(tmp_path, {"layer": layer})
    checkpointer.save_checkpoint()
    if not (child := os.fork()):
        torch.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        checkpointer.save_checkpoint()
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(checkpointer.list_checkpoints()) == 1
    # Or in the midst of deleting one, of whose files any may be the first
    (checkpointer.save_checkpoint().path / "CKPT.yaml").unlink()
    assert len(checkpointer.list_checkpoints()) == 1
    checkpointer.save_and_keep_only()
    assert len(list(tmp_path.iterdir())) == 1


def test_the_last_saved_is_the_latest_whatever_the_clock(
    tmp_path, layer, monkeypatch
):
    now = [2e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    checkpointer = CompleteCheckpointer(tmp_path, {"layer": layer})
    checkpointer.save_and_keep_only(meta={"step": 1})
    now[0] -= 3600  # the clock was set back
    for step in (2, 3):
        checkpointer.save_and_keep_only(meta={"step": step})
        assert checkpointer.find_checkpoint().meta["step"] == step
        assert len(checkpointer.list_checkpoints()) == 1


def test_what_is_not_as_it_was_written_is_told(tmp_path, layer):
    """A bit of any byte of any file, another model, a file that is gone."""
    checkpointer = CompleteCheckpointer(tmp_path, {"layer": layer})
    folder = checkpointer.save_checkpoint().path
    flipped = 0
    for path in folder.iterdir():
        whole = path.read_bytes()
        for place in range(0, len(whole), max(len(whole) // 20, 1)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            with pytest.raises(UserError, match="damaged.*delete this folder"):
                checkpointer.recover_if_possible()
            flipped += 1
        path.write_bytes(whole)
    assert flipped >= 50
    checkpointer.recover_if_possible()
    other = CompleteCheckpointer(tmp_path, {"layer": torch.nn.Linear(3, 2)})
    with pytest.raises(UserError, match="choose another output_folder"):
        other.recover_if_possible()
    (folder / "layer.ckpt").unlink()
    with pytest.raises(UserError, match="layer.ckpt is gone"):
        checkpointer.recover_if_possible()


def draws():
    return (
        [random.random(), random.gauss(0, 1)],
        np.random.standard_normal(3).tolist(),
        torch.rand(3).tolist(),
    )


@pytest.mark.parametrize("before", [0, 1, 623, 624, 700])
def test_every_generator_goes_on_where_it_was(tmp_path, before):
    path = tmp_path / "state.ckpt"
    random.seed(before)
    np.random.seed(before)
    torch.manual_seed(before)
    for _ in range(before):
        random.random()
    draws()  # Leaves half a pair of normal numbers behind.
    RandomState().save(path)
    wanted = draws()
    state = RandomState()
    draws()
    state.load(path, end_of_epoch=True)
    assert draws() == wanted
    # Within an epoch: when the training says so, and once.
    state.load(path, end_of_epoch=False)
    assert draws() != wanted
    state.resume()
    assert draws() == wanted
    state.resume()
    assert draws() != wanted


def test_the_second_signal_does_what_it_always_did():
    # A shell starts what runs in its background with SIGINT ignored.
    handler = signal.default_int_handler
    outside = signal.signal(signal.SIGINT, handler)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.signal == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, outside)
