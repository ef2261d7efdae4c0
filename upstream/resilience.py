"""What the Brain builds on in SpeechBrain, in place of the package's module.

SpeechBrain's reviewers get the objective; interruptions and non-finite batches
stay as SpeechBrain handles them.
"""

import torch

import speechbrain as sb
from speechbrain_scl.training.progress import Progress


class ResilientBrain(sb.core.Brain):
    """Collects the means of what the batches of an epoch report."""

    loss_is_finite = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.progress = Progress()

    def on_stage_start(self, stage, epoch=None):
        """Starts the epoch's means."""
        if stage == sb.Stage.TRAIN:
            self.progress.start_epoch()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """A loss that is not finite stays out of the means."""
        self.loss_is_finite = bool(torch.isfinite(loss))
