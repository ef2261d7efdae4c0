"""The means of an epoch, and the warning of a run that does not learn."""

import logging
import re

import pytest
import torch

from speechbrain_scl.training.progress import Progress


@pytest.mark.parametrize("interrupted", range(4))
def test_the_means_are_those_of_all_batches(tmp_path, interrupted):
    """With an interruption anywhere."""
    progress = Progress()
    for i, value in enumerate([1e6, -3.0, 0.5]):
        if i == interrupted:
            progress.save(tmp_path / "progress.ckpt")
            progress = Progress()
            progress.load(tmp_path / "progress.ckpt", end_of_epoch=False)
        progress.add({"a": torch.tensor(value, dtype=torch.float64), "b": 1})
    wanted = {"a": pytest.approx((1e6 - 2.5) / 3), "b": 1}
    assert progress.means() == wanted
    progress.start_epoch()
    assert progress.means() == {}


@pytest.mark.parametrize(
    "losses, rates, said",
    [
        ([5.0, 4.0, 3.0, 2.0], [0.5, 0.46, 0.44, 0.3], ""),
        ([5.0, 4.0, 3.0], [0.5, 0.48, 0.47], "Epoch 3.*EER is 47 %"),
        (
            [5.0, 4.0, 5.5],
            [0.4, 0.3, 0.3],
            "Epoch 3.*5.5, after 5 in the first",
        ),
    ],
)
def test_divergence_is_pointed_out(caplog, tmp_path, losses, rates, said):
    progress = Progress()
    with caplog.at_level(logging.WARNING):
        for i, (loss, rate) in enumerate(zip(losses, rates), 1):
            progress.warn_unless_learning(i, loss, rate)
            # The first loss survives an interruption.
            progress.save(tmp_path / "p.ckpt")
            progress = Progress()
            progress.load(tmp_path / "p.ckpt", end_of_epoch=True)
    if said:
        assert re.search(said, caplog.text) and "lower lr" in caplog.text
    else:
        assert not caplog.records
