"""A training that was interrupted ends where an uninterrupted one does."""

import signal

import torch
from commands import RECIPE, SMALL, trial_option

from speechbrain.utils.checkpoints import Checkpointer

# The recipe's own script, which a signal meets within and after an epoch.
SCRIPT = f"""
import os
import sys

sys.path[:0] = [{str(RECIPE)!r}]
import train_speaker_embeddings
from speechbrain_scl import brain

number = int(sys.argv.pop())


class Stopped(brain.SupConSpeakerBrain):
    def on_fit_batch_end(self, *args):
        super().on_fit_batch_end(*args)
        if (self.epoch, self.step) == (1, 2):
            os.kill(os.getpid(), number)

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        if stage.name == "VALID":
            os.kill(os.getpid(), number)


train_speaker_embeddings.SupConSpeakerBrain = Stopped
train_speaker_embeddings.main(sys.argv[1:])
"""


def test_the_same_run_to_the_last_bit(trained, corpus, run_warm, tmp_path):
    """Killed and interrupted within an epoch, and interrupted at its end."""
    output = tmp_path / "out"
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(script, *arguments):
        return run_warm(
            script,
            *SMALL,
            f"--data_folder={corpus}",
            f"--output_folder={output}",
            trial_option(corpus, "verification_file"),
            "--ckpt_interval_minutes=0",
            "--ckpt_interval_steps=1",
            *arguments,
        )

    for number, status, said in (
        (signal.SIGKILL, -9, ""),
        (
            signal.SIGINT,
            130,
            "interrupted: saved after batch 2 of the epoch in",
        ),
        (signal.SIGTERM, 143, "interrupted: epoch 1 is complete in"),
    ):
        done = run(tmp_path / "script.py", int(number))
        assert done.returncode == status, done.stderr[-3000:]
        assert said in done.stderr and "Traceback" not in done.stderr
    done = run("train_speaker_embeddings.py")
    assert done.returncode == 0, done.stderr[-3000:]

    # All that a run leaves: parameters, running statistics, and the log.
    wanted, found = (
        torch.load(folder / "inference/embedding_model.ckpt", weights_only=True)
        for folder in (trained, output)
    )
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    logs = [(f / "train_log.txt").read_text() for f in (trained, output)]
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
