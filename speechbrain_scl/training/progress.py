"""What a training run says of itself: its means, and whether it learns."""

import torch

from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import all_reduce_sum

logger = get_logger(__name__)


class Progress:
    """Means over the batches of an epoch, of all processes; a recoverable of
    the checkpointer, so that a run that goes on within an epoch has them whole.
    """

    def __init__(self):
        self.start_epoch()
        self.first_loss = None

    def start_epoch(self):
        """Forgets the batches so far."""
        self._sums = {}

    def add(self, values):
        """Adds a batch: names to numbers or 0-dim tensors, which stay on
        their device without a wait for it."""
        for name, value in {**values, "count": 1.0}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def means(self):
        """The means so far, by name; every process takes part."""
        sums = self._all_sums()
        count = sums.pop("count", 0.0)
        return {name: total / count for name, total in sums.items()}

    def warn_unless_learning(self, epoch, loss, error_rate):
        """Warns of a run that is finite but does not learn."""
        if self.first_loss is None:
            self.first_loss = loss
        symptoms = []
        # Near that of guessing, long after it should have fallen
        if epoch >= 3 and (error_rate or 0.0) > 0.45:
            symptoms.append(f"the validation EER is {100 * error_rate:.0f} %")
        if loss > self.first_loss:
            symptoms.append(
                f"the classification loss is {loss:.3g}, after "
                f"{self.first_loss:.3g} in the first epoch"
            )
        if symptoms:
            logger.warning(
                "Epoch %d: this training does not converge: %s. Try a lower "
                "lr, a smaller aam_margin, or a higher temperature of the "
                "contrastive loss; do the labels fit the recordings?",
                epoch,
                " and ".join(symptoms),
            )

    def save(self, path):
        """Writes the sums; every process takes part."""
        state = {"sums": self._all_sums(), "first_loss": self.first_loss}
        if if_main_process():
            torch.save(state, path)

    def load(self, path, end_of_epoch):
        """Goes on from the sums of a file; a new epoch starts its own."""
        state = torch.load(path, weights_only=True)
        self.first_loss = state["first_loss"]
        # They are of all processes together, so one of them has them.
        share = float(if_main_process())
        self._sums = {n: share * total for n, total in state["sums"].items()}

    def _all_sums(self):
        if not self._sums:
            return {}
        # Apart: a number and a tensor may be on different devices.
        tensors = [torch.as_tensor(x).double() for x in self._sums.values()]
        device = max(tensors, key=lambda t: t.is_cuda).device
        sums = all_reduce_sum(torch.stack([t.to(device) for t in tensors]))
        return dict(zip(self._sums, sums.tolist(), strict=True))
