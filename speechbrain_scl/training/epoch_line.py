"""An epoch in one line that a person reads."""

import time
from datetime import timedelta

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger

logger = get_logger(__name__)


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
        super().log_stats(*stats, verbose=False)
        for other in self.others:
            other.log_stats(*stats)
        now = time.monotonic()
        self.seconds.append(now - self.started)
        self.started = now
        if "epoch" in stats_meta:
            shown = {**stats_meta, **(train_stats or {}), **(valid_stats or {})}
            logger.info("%s", self._line(shown))

    def _line(self, stats):
        epoch, n = stats["epoch"], self.number_of_epochs
        parts = []
        if "loss" in stats:
            parts.append(f"loss {stats['loss']:.3g}")
        if "classification" in stats:
            parts[-1] += (
                " (classification {classification:.3g} x "
                "{weight_classification:.2f}, contrast {contrastive:.3g} x "
                "{weight_contrastive:.2f})"
            ).format(**stats)
        if "attention" in stats:
            parts.append(f"attention {stats['attention']:.2f}")
        if "EER" in stats:
            parts.append(f"validation EER {100 * stats['EER']:.2f} %")
        if "lr" in stats:
            parts.append(f"lr {stats['lr']:.3g}")
        parts.append(f"took {timedelta(seconds=round(self.seconds[-1]))}")
        if epoch < n:
            left = (n - epoch) * sum(self.seconds) / len(self.seconds)
            parts.append(f"{timedelta(seconds=round(left))} left")
        return f"epoch {epoch}/{n}: {', '.join(parts)}"
