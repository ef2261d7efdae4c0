"""What a training reads: crops of files that are as they were, and sessions."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.samplers import SpeakerBatchSampler
from speechbrain_scl.training.data import dataio_prep, read_crop, spread_values

SPEAKERS = ["ann", "bob", "cleo", "cleo"]


@dataclasses.dataclass(frozen=True)
class WithSession(Utterance):
    session: str


@pytest.fixture
def hparams(tmp_path):
    """Two speakers with one utterance, one with two."""
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 16000))
    rows = []
    for i, (name, signal) in enumerate(zip(SPEAKERS, noise)):
        path = str(tmp_path / f"{i}.wav")
        soundfile.write(path, signal, 16000)
        utt_id = f"{name}--day{i}--{i}"
        rows.append(WithSession(utt_id, 1, path, 0, 16000, name, f"day{i}"))
    write_manifest(tmp_path / "t.csv", rows)
    return {
        "train_annotation": str(tmp_path / "t.csv"),
        "valid_annotation": str(tmp_path / "t.csv"),
        "speeds": [1.0, 0.9],
        "sample_rate": 16000,
        "seed": 1,
        "sentence_len": 0.2,
        "valid_len": 0.2,
        "save_folder": str(tmp_path),
        "epoch_counter": SimpleNamespace(current=1),
    }


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_utterance_twice_in_a_batch_is_two_crops(hparams, num_workers):
    data, *_, speakers = dataio_prep(hparams)
    sampler = SpeakerBatchSampler(speakers, 6, 3, seed=0)
    (chosen,) = list(sampler)
    loader = SaveableDataLoader(
        data, batch_sampler=sampler, collate_fn=list, num_workers=num_workers
    )
    (batch,) = list(loader)
    assert [x["id"] for x in batch] == [data.data_ids[i] for i in chosen]
    assert len(set(chosen)) == 8 < len(chosen) == 18
    for i, first in enumerate(batch):
        for second in batch[:i]:
            assert not torch.equal(first["sig"], second["sig"])
    # The first of an utterance is the crop that it has alone; the same again
    # in the next run (resampled with other threads, to rounding).
    for index in set(chosen):
        first = batch[chosen.index(index)]["sig"]
        torch.testing.assert_close(first, data[index]["sig"])
    for first, second in zip(batch, data.__getitems__(chosen)):
        torch.testing.assert_close(first["sig"], second["sig"])


def test_validation_hears_the_same_in_every_epoch(hparams):
    train, valid, *_ = dataio_prep(hparams)
    heard = []
    for epoch in (1, 2):
        hparams["epoch_counter"].current = epoch
        heard.append((train[0]["sig"], valid[0]["sig"]))
    (one, held_out), (other, again) = heard
    assert torch.equal(held_out, again) and not torch.equal(one, other)


def test_sessions_of_the_manifest(hparams):
    assert spread_values(hparams) is None
    found = spread_values({**hparams, "spread_over": "session"})
    assert found == ["day0", "day1", "day2", "day3"] * 2
    _, _, _, speakers = dataio_prep(hparams)
    assert len(speakers) == len(found)
    with pytest.raises(UserError, match="no column genre, but .*session"):
        spread_values({**hparams, "spread_over": "genre"})


def test_an_older_manifest_loads_without_sessions(hparams, tmp_path):
    rows = [Utterance("a--b--c", 1.0, str(tmp_path / "0.wav"), 0, 9, "a")]
    write_manifest(tmp_path / "t.csv", rows)
    assert len(dataio_prep(hparams)[0]) == 2
    with pytest.raises(UserError, match="prepare.json beside"):
        spread_values({**hparams, "spread_over": "session"})


@pytest.mark.parametrize(
    "text, found",
    [
        (
            "path,language\nann/day0/0.wav,zh\nbob/day1/1.flac,en\n"
            "cleo/day2/2.wav,de\ncleo/day3/3.wav,zh\n",
            ["zh", "en", "de", "zh"],
        ),
        ("speaker,language\nann,zh\nbob,en\ncleo,de\n", "zh en de de".split()),
    ],
)
def test_languages_of_a_metadata_file(hparams, tmp_path, text, found):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    asked = {**hparams, "spread_over": "language", "metadata": str(path)}
    assert spread_values(asked) == found * 2
    path.write_text(text[: text.index("cleo")])
    with pytest.raises(UserError, match="neither the utterance cleo/day2/2"):
        spread_values(asked)


def test_crops(tmp_path):
    path = str(tmp_path / "a.flac")
    soundfile.write(path, np.arange(1000) / 2000, 16000)
    whole, _ = soundfile.read(path, dtype="float32")
    whole = torch.from_numpy(whole)
    assert torch.equal(read_crop(path, 0, 1000, 200), whole[400:600])
    assert torch.equal(read_crop(path, 100, 300, 200, "x"), whole[100:300])
    short = read_crop(path, 0, 150, 400)
    assert torch.equal(short, whole[:150].repeat(3)[:400])
    crops, again = (
        [read_crop(path, 0, 1000, 200, f"epoch {i}") for i in range(20)]
        for _ in range(2)
    )
    assert all(map(torch.equal, crops, again))
    assert len({crop[0].item() for crop in crops}) > 10


@pytest.mark.parametrize(
    "signal, rate, said",
    [
        (np.full(100, 0.1), 8000, "has changed .*8000 Hz instead of 16000"),
        (np.full(60, 0.1), 16000, "has changed .*shorter"),
        (np.zeros(100), 16000, "has changed .*silent"),
        (np.full(100, np.nan), 16000, "not finite"),
        (None, 16000, "cannot be read"),
    ],
)
def test_a_file_that_was_replaced_is_named(tmp_path, signal, rate, said):
    path = tmp_path / "a.wav"
    if signal is None:
        path.write_text("not audio")
    else:
        soundfile.write(path, signal, rate, "FLOAT")
    with pytest.raises(UserError, match=f"a.wav: .*{said}"):
        read_crop(str(path), 0, 100, 90, rate=16000)
    # Silence within a recording is none of that.
    soundfile.write(path, np.r_[np.zeros(60), np.ones(40) / 9], 16000)
    assert not read_crop(str(path), 0, 60, 50, rate=16000).any()
