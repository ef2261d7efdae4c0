"""A training that was interrupted ends where an uninterrupted one does."""

import signal

from commands import RECIPE, SMALL, within

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

    options = [*SMALL, *within(corpus, output)]
    options += ["--ckpt_interval_minutes=0", "--ckpt_interval_steps=1"]
    for number, status, said in (
        (signal.SIGKILL, -9, ""),
        (signal.SIGINT, 130, ": saved after batch 2 of the epoch in"),
        (signal.SIGTERM, 143, "interrupted: epoch 1 is complete in"),
    ):
        script = tmp_path / "script.py", *options, int(number)
        done = run_warm(*script, status=status)
        assert said in done.stderr and "Traceback" not in done.stderr
    run_warm("train_speaker_embeddings.py", *options)

    # All that a run leaves: parameters, running statistics, and the log.
    for name in ("inference/embedding_model.ckpt", "train_log.txt"):
        assert (trained / name).read_bytes() == (output / name).read_bytes()
