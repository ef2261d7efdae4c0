"""The means of an epoch, and the warning of a run that does not learn."""

import logging
import re

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)

from speechbrain_scl.training.progress import Progress


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    data=st.data(),
)
def test_the_means_are_those_of_all_batches(tmp_path_factory, values, data):
    """With an interruption anywhere."""
    interrupted = data.draw(st.integers(0, len(values)))
    path = tmp_path_factory.mktemp("progress") / "progress.ckpt"
    progress = Progress()
    for i, value in enumerate(values):
        if i == interrupted:
            progress.save(path)
            progress = Progress()
            progress.load(path, end_of_epoch=False)
        progress.add({"a": torch.tensor(value, dtype=torch.float64), "b": 1})
    wanted = sum(values) / len(values)
    assert progress.means()["a"] == pytest.approx(wanted, abs=1e-6)
    assert progress.means()["b"] == 1
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
