"""What a training run says of itself: its means, a line an epoch, and whether
it learns."""

import contextlib
import re
import time
from datetime import timedelta
from pathlib import Path

import torch

from speechbrain.utils.distributed import if_main_process, main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger
from speechbrain_scl.distributed import all_reduce_sum
from speechbrain_scl.files import atomic_write

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
                f"Epoch {epoch}: this training does not converge: "
                f"{' and '.join(symptoms)}. Try a lower lr, a smaller "
                "aam_margin, or a higher temperature of the contrastive loss; "
                "do the labels fit the recordings?"
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


class EpochLogger(FileTrainLogger):
    """All figures into a file, as SpeechBrain's logger, and to ``others``, such
    as its ``TensorboardLogger``; a readable line on the console, with the time
    left of ``number_of_epochs``."""

    def __init__(self, save_file, number_of_epochs, others=()):
        super().__init__(save_file)
        self.number_of_epochs = number_of_epochs
        self.others = others
        self.seconds = []
        self.start_epoch()

    def start_epoch(self):
        """Starts the epoch's clock."""
        self.started = time.monotonic()

    @main_process_only
    def log_stats(
        self, stats_meta, train_stats=None, valid_stats=None, test_stats=None
    ):
        """As SpeechBrain's."""
        stats = stats_meta, train_stats, valid_stats, test_stats
        self._forget(stats_meta.get("epoch"))
        super().log_stats(*stats, verbose=False)
        for other in self.others:
            other.log_stats(*stats)
        self.seconds.append(time.monotonic() - self.started)
        self.start_epoch()
        if "epoch" in stats_meta:
            shown = {**stats_meta, **(train_stats or {}), **(valid_stats or {})}
            logger.info(self._line(**shown))

    def _forget(self, epoch):
        """A kill or a full disk between an epoch's line and its checkpoint: the
        epoch comes again, and what there is of its line goes."""
        with contextlib.suppress(FileNotFoundError):
            text = Path(self.save_file).read_text(encoding="utf-8")
            # Whole lines of other epochs
            kept = re.sub(rf"(?m)^epoch: {epoch},.*\n|^.*\Z", "", text)
            if kept != text:
                with atomic_write(self.save_file) as file:
                    file.write(kept)

    def _line(self, epoch, **stats):
        loss = "loss {loss:.3g}"
        if "classification" in stats:
            loss += (
                " (classification {classification:.3g} x "
                "{weight_classification:.2f}, contrast {contrastive:.3g} x "
                "{weight_contrastive:.2f})"
            )
        said = {
            "loss": loss,
            "attention": "attention {attention:.2f}",
            "EER": "validation EER {percent:.2f} %",
            "lr": "lr {lr:.3g}",
        }
        stats["percent"] = 100 * stats.get("EER", 0.0)
        parts = [said[name].format(**stats) for name in said if name in stats]
        parts.append(f"took {timedelta(seconds=round(self.seconds[-1]))}")
        left = self.number_of_epochs - epoch
        if left > 0:
            seconds = round(left * sum(self.seconds) / len(self.seconds))
            parts.append(f"{timedelta(seconds=seconds)} left")
        return f"epoch {epoch}/{self.number_of_epochs}: {', '.join(parts)}"
