"""The line of an epoch, and who else gets the figures."""

import logging

import pytest

from speechbrain_scl.training import epoch_line as module
from speechbrain_scl.training.epoch_line import EpochLogger, epoch_line


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only the test lets pass."""
    passed = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: passed[0])
    return passed


def test_the_file_has_all_and_the_console_what_one_reads(
    tmp_path, clock, caplog
):
    class Other:
        got = []

        def log_stats(self, *stats):
            self.got.append(stats)

    path = tmp_path / "train_log.txt"
    logger = EpochLogger(str(path), 5, [Other()])
    clock[0] += 1000  # the preparation is no part of the first epoch
    with caplog.at_level(logging.INFO):
        for epoch, seconds in ((1, 60), (2, 120)):
            logger.start_epoch()
            clock[0] += seconds
            logger.log_stats(
                {"epoch": epoch, "lr": 0.002},
                {"loss": 3.0, "positive_pairs": 24.0},
                {"EER": 0.123},
            )
    assert path.read_text().splitlines()[1] == (
        "epoch: 2, lr: 2.00e-03 - train loss: 3.00, "
        "train positive_pairs: 24.00 - valid EER: 1.23e-01"
    )
    assert [r.getMessage() for r in caplog.records] == [
        "epoch 1/5: loss 3, validation EER 12.30 %, lr 0.002, "
        "took 0:01:00, 0:04:00 left",
        "epoch 2/5: loss 3, validation EER 12.30 %, lr 0.002, "
        "took 0:02:00, 0:04:30 left",
    ]
    assert [stats[0]["epoch"] for stats in Other.got] == [1, 2]


def test_the_last_epoch_has_no_time_left():
    line = epoch_line({"epoch": 5}, {"EER": 1.0}, 5, [1.0])
    assert line == "epoch 5/5: validation EER 100.00 %, took 0:00:01"
