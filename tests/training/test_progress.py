"""What a run says: means, a line an epoch, and that it does not learn."""

import logging
import re
from unittest.mock import Mock

import pytest
import torch

from speechbrain_scl.training import progress
from speechbrain_scl.training.progress import EpochLogger, Progress


@pytest.mark.parametrize("interrupted", range(4))
def test_the_means_are_those_of_all_batches(tmp_path, interrupted):
    """With an interruption anywhere."""
    run = Progress()
    for i, value in enumerate([1e6, -3.0, 0.5]):
        if i == interrupted:
            run.save(tmp_path / "progress.ckpt")
            run = Progress()
            run.load(tmp_path / "progress.ckpt", end_of_epoch=False)
        run.add({"a": torch.tensor(value, dtype=torch.float64), "b": 1})
    wanted = {"a": pytest.approx((1e6 - 2.5) / 3), "b": 1}
    assert run.means() == wanted
    run.start_epoch()
    assert run.means() == {}


@pytest.mark.parametrize(
    "losses, rates, said",
    [
        ([5.0, 4.0, 3.0, 2.0], [0.5, 0.46, 0.44, 0.3], ""),
        ([5.0, 4.0, 3.0], [0.5, 0.48, 0.47], "Epoch 3.*EER is 47 %"),
        ([5.0, 4.0, 5.5], [0.4, 0.3, 0.3], "Epoch 3.*5.5, after 5 in the"),
    ],
)
def test_divergence_is_pointed_out(caplog, tmp_path, losses, rates, said):
    run = Progress()
    with caplog.at_level(logging.WARNING):
        for i, (loss, rate) in enumerate(zip(losses, rates), 1):
            run.warn_unless_learning(i, loss, rate)
            # The first loss survives an interruption.
            run.save(tmp_path / "p.ckpt")
            run = Progress()
            run.load(tmp_path / "p.ckpt", end_of_epoch=True)
    if said:
        assert re.search(said, caplog.text) and "lower lr" in caplog.text
    else:
        assert not caplog.records


def test_the_file_has_all_and_the_console_what_one_reads(
    tmp_path, monkeypatch, caplog
):
    other, now = Mock(), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    path = tmp_path / "train_log.txt"
    logger = EpochLogger(str(path), 2, [other])
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
    said = path.read_text().splitlines()[1]
    assert "train positive_pairs: 24.00 - valid EER: 1.23e-01" in said
    figures = (
        "loss 7.14 (classification 10.4 x 0.50, contrast 3.89 x 0.50), "
        "attention 0.49, validation EER 12.30 %, lr 0.002, took "
    )
    assert [r.getMessage() for r in caplog.records] == [
        f"epoch 1/2: {figures}0:01:00, 0:01:00 left",
        f"epoch 2/2: {figures}0:02:00",
    ]
    calls = other.log_stats.call_args_list
    assert [call.args[0]["epoch"] for call in calls] == [1, 2]
    # A kill before the checkpoint: the epoch comes again, with one line.
    before = path.read_text()
    path.write_text(before + "epoch: 2, l")
    logger.log_stats(meta, stats, {"EER": 0.123})
    assert path.read_text() == before
