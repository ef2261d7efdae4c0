"""The line of an epoch, and who else gets the figures."""

import logging

from speechbrain_scl.training import epoch_line as module
from speechbrain_scl.training.epoch_line import EpochLogger


def test_the_file_has_all_and_the_console_what_one_reads(
    tmp_path, monkeypatch, caplog
):
    class Other:
        got = []

        def log_stats(self, *stats):
            self.got.append(stats)

    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    path = tmp_path / "train_log.txt"
    logger = EpochLogger(str(path), 2, [Other()])
    now[0] += 1000  # the preparation is no part of the first epoch
    stats = {"loss": 7.14, "classification": 10.41, "contrastive": 3.89}
    stats |= {"weight_classification": 0.5, "weight_contrastive": 0.5}
    stats |= {"attention": 0.494, "positive_pairs": 24.0}
    with caplog.at_level(logging.INFO):
        for epoch, seconds in ((1, 60), (2, 120)):
            logger.start_epoch()
            now[0] += seconds
            meta = {"epoch": epoch, "lr": 0.002}
            logger.log_stats(meta, stats, {"EER": 0.123})
    assert (
        "train positive_pairs: 24.00 - valid EER: 1.23e-01"
        in (path.read_text().splitlines()[1])
    )
    figures = (
        "loss 7.14 (classification 10.4 x 0.50, contrast 3.89 x 0.50), "
        "attention 0.49, validation EER 12.30 %, lr 0.002, took "
    )
    assert [r.getMessage() for r in caplog.records] == [
        f"epoch 1/2: {figures}0:01:00, 0:01:00 left",
        f"epoch 2/2: {figures}0:02:00",
    ]
    assert [stats[0]["epoch"] for stats in Other.got] == [1, 2]
