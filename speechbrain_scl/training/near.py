"""Near speakers in one batch, by the classifier's vectors."""

import torch

from speechbrain.utils.distributed import ddp_broadcast, if_main_process
from speechbrain_scl.distributed import unwrapped
from speechbrain_scl.errors import UserError


class NearSpeakers:
    """Lets the sampler bring near speakers together, epoch by epoch.

    At the start of each epoch ``after`` so many with random companions, the
    sampler finds who is near whom by the classifier's vectors, for all
    processes alike; they make ``share`` of a batch's speakers. A checkpoint
    holds what it found, so that an epoch that is resumed has its batches.
    """

    def __init__(self, share=0.5, after=0):
        if not 0 < share <= 1 or after < 0:
            raise UserError(
                f"near_speakers: share={share} lies in (0, 1], and "
                f"after={after} is 0 or more epochs"
            )
        self.share, self.after = share, after
        self.epoch = None

    def start(self, sampler, classes):
        """Before the training: whose speakers, and their classes' numbers."""
        self.sampler, self._classes = sampler, list(classes)

    def start_epoch(self, epoch, classifier):
        """Finds who is near, unless a checkpoint has told for this epoch."""
        if epoch <= self.after or epoch == self.epoch:
            return
        vectors = unwrapped(classifier).weight.detach().float().cpu()
        if vectors.dim() == 3:  # several centres of a class
            vectors = vectors.mean(1)
        self.sampler.set_epoch(epoch)
        self.sampler.find_near(vectors[self._classes].numpy())
        self.sampler.near_order = ddp_broadcast(self.sampler.near_order)
        self.epoch = epoch

    def save(self, path):
        """For a checkpoint."""
        order = self.sampler.near_order
        order = order if order is None else torch.from_numpy(order)
        if if_main_process():
            torch.save((self.epoch, order), path)

    def load(self, path, end_of_epoch):
        """From a checkpoint."""
        self.epoch, order = torch.load(path, weights_only=True)
        if order is not None:
            self.sampler.near_order = order.numpy()
