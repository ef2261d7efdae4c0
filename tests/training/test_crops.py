"""Crops of a training's files, and files that are not what they were."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.errors import UserError
from speechbrain_scl.training.crops import read_crop


def test_crops(tmp_path):
    path = str(tmp_path / "a.flac")
    soundfile.write(path, np.arange(1000) / 2000, 16000)
    whole, _ = soundfile.read(path, dtype="float32")
    whole = torch.from_numpy(whole)
    assert torch.equal(read_crop(path, 0, 1000, 200), whole[400:600])
    assert torch.equal(read_crop(path, 100, 300, 200, "x"), whole[100:300])
    short = read_crop(path, 0, 150, 400)
    assert torch.equal(short, whole[:150].repeat(3)[:400])
    crops = [read_crop(path, 0, 1000, 200, f"epoch {i}") for i in range(20)]
    again = [read_crop(path, 0, 1000, 200, f"epoch {i}") for i in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(crops, again))
    assert len({crop[0].item() for crop in crops}) > 10


def test_a_file_that_breaks_during_training_is_named(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("not audio")
    with pytest.raises(UserError, match="a.wav: cannot be read"):
        read_crop(str(path), 0, 100, 50)
    soundfile.write(path, np.full(100, np.nan), 16000, "FLOAT")
    with pytest.raises(UserError, match="not finite"):
        read_crop(str(path), 0, 100, 50)


@pytest.mark.parametrize(
    "signal, rate, said",
    [
        (np.full(100, 0.1), 8000, "8000 Hz instead of 16000"),
        (np.full(60, 0.1), 16000, "shorter"),
        (np.zeros(100), 16000, "silent"),
    ],
)
def test_a_file_that_was_replaced_is_named(tmp_path, signal, rate, said):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, rate)
    with pytest.raises(UserError, match=f"a.wav: it has changed .*{said}"):
        read_crop(str(path), 0, 100, 90, rate=16000)
    # Silence within a recording is none of that.
    soundfile.write(path, np.r_[np.zeros(60), np.ones(40) / 9], 16000)
    assert not read_crop(str(path), 0, 60, 50, rate=16000).any()
