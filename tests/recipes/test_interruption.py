"""A training that was interrupted ends where an uninterrupted one does."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from commands import RECIPE, ROOT, SMALL, trial_option

from speechbrain.utils.checkpoints import Checkpointer


@pytest.fixture(scope="module")
def start(corpus):
    """Starts a short training into a folder, a checkpoint after each batch."""

    def start(output):
        return subprocess.Popen(
            [
                sys.executable,
                "train_speaker_embeddings.py",
                *SMALL,
                f"--data_folder={corpus}",
                f"--output_folder={output}",
                trial_option(corpus, "verification_file"),
                "--utterances_per_speaker=1",
                "--ckpt_interval_minutes=0",
                "--ckpt_interval_steps=1",
            ],
            cwd=RECIPE,
            # The order of sums, and so the last bits, depend on the threads.
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process, status=0):
    """The output of a process that ends as it should."""
    text, _ = process.communicate(timeout=240)
    assert process.returncode == status, text[-3000:]
    assert "Traceback" not in text
    return text


def wait_for_checkpoint(process, output, end_of_epoch):
    """Until there is a new one of that kind."""
    wanted = f"end-of-epoch: {str(end_of_epoch).lower()}"
    known = set(output.glob("save/CKPT+*"))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        for meta in output.glob("save/CKPT+*/CKPT.yaml"):
            try:
                if meta.parent not in known and wanted in meta.read_text():
                    return
            except FileNotFoundError:
                pass  # It was just replaced by a newer one.
        time.sleep(0.005)
    raise AssertionError(process.communicate()[0][-3000:])


def test_the_same_run_to_the_last_bit(start, tmp_path):
    """Killed within an epoch, and Ctrl-C at its end."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = start(whole)
    for number, end_of_epoch in (
        (signal.SIGKILL, False),
        (signal.SIGINT, True),
    ):
        process = start(parts)
        wait_for_checkpoint(process, parts, end_of_epoch)
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.communicate(timeout=60)
            assert process.returncode == -number
        else:
            text = finish(process, 128 + number)
            assert "interrupted: " in text
            assert f"in {parts}/save; the same command goes on" in text
    finish(start(parts))
    finish(uninterrupted)

    # All that a run leaves: parameters, running statistics, and the log.
    model = "inference/embedding_model.ckpt"
    wanted = torch.load(whole / model, weights_only=True)
    found = torch.load(parts / model, weights_only=True)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    logs = [(folder / "train_log.txt").read_text() for folder in (whole, parts)]
    assert logs[0] == logs[1]


def test_checkpoints_load_without_executing_code(trained):
    """Text, or torch files of tensors and numbers."""
    (checkpoint,) = Checkpointer(trained / "save").find_checkpoints(
        max_num_checkpoints=1
    )
    binary = set()
    for path in checkpoint.path.glob("*.ckpt"):
        try:
            path.read_text(encoding="ascii")
        except UnicodeDecodeError:
            torch.load(path, weights_only=True)
            binary.add(path.stem)
    assert {"embedding_model", "optimizer", "random_state"} <= binary
