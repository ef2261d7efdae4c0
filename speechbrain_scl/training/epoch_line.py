"""An epoch in one line that a person reads."""

import time
from datetime import timedelta

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger

logger = get_logger(__name__)


class EpochLogger(FileTrainLogger):
    """All figures into a file, a readable line on the console.

    Arguments
    ---------
    save_file : str
        Gets SpeechBrain's line of all figures for each epoch.
    number_of_epochs : int
        Of the whole run, for the time left.
    others : list of speechbrain.utils.train_logger.TrainLogger
        Get the same figures, such as SpeechBrain's ``TensorboardLogger``.
    """

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
        self,
        stats_meta,
        train_stats=None,
        valid_stats=None,
        test_stats=None,
        verbose=True,
    ):
        """As SpeechBrain's.

        Arguments
        ---------
        stats_meta : dict
            ``epoch`` and ``lr``.
        train_stats, valid_stats, test_stats : dict or None
            Name to number.
        verbose : bool
            Whether the console gets the line.
        """
        stats = stats_meta, train_stats, valid_stats, test_stats
        super().log_stats(*stats, verbose=False)
        for other in self.others:
            other.log_stats(*stats)
        now = time.monotonic()
        self.seconds.append(now - self.started)
        self.started = now
        if verbose and "epoch" in stats_meta:
            shown = {**(train_stats or {}), **(valid_stats or {})}
            n = self.number_of_epochs
            logger.info("%s", epoch_line(stats_meta, shown, n, self.seconds))


def epoch_line(meta, stats, number_of_epochs, seconds):
    """An epoch's figures in words.

    Arguments
    ---------
    meta : dict
        ``epoch``, and ``lr`` where there is one.
    stats : dict
        The Brain's means of the training, and the validation's ``EER``; those
        that lack are not shown.
    number_of_epochs : int
        Of the whole run.
    seconds : list of float
        The epochs so far took; this is the last one.

    Returns
    -------
    str

    Example
    -------
    >>> stats = {"loss": 7.14, "classification": 10.41, "contrastive": 3.89}
    >>> stats |= {"weight_classification": 0.5, "weight_contrastive": 0.5}
    >>> stats |= {"attention": 0.494, "EER": 0.0292}
    >>> epoch_line({"epoch": 2, "lr": 0.00217}, stats, 40, [62.6, 62.3])
    'epoch 2/40: loss 7.14 (classification 10.4 x 0.50, contrast 3.89 x 0.50), attention 0.49, validation EER 2.92 %, lr 0.00217, took 0:01:02, 0:39:33 left'
    """
    parts = []
    if "loss" in stats:
        parts.append(f"loss {stats['loss']:.3g}")
    if "classification" in stats:
        terms = [
            f"{said} {stats[name]:.3g} x {stats[f'weight_{name}']:.2f}"
            for said, name in (
                ("classification", "classification"),
                ("contrast", "contrastive"),
            )
        ]
        parts[-1] += f" ({', '.join(terms)})"
    if "attention" in stats:
        parts.append(f"attention {stats['attention']:.2f}")
    if "EER" in stats:
        parts.append(f"validation EER {100 * stats['EER']:.2f} %")
    if "lr" in meta:
        parts.append(f"lr {meta['lr']:.3g}")
    parts.append(f"took {timedelta(seconds=round(seconds[-1]))}")
    epochs_left = number_of_epochs - meta["epoch"]
    if epochs_left > 0:
        left = epochs_left * sum(seconds) / len(seconds)
        parts.append(f"{timedelta(seconds=round(left))} left")
    return f"epoch {meta['epoch']}/{number_of_epochs}: {', '.join(parts)}"
