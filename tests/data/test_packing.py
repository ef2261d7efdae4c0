"""Packed recordings: the same crops, in WebDataset's layout."""

import io
import os
import tarfile

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.data.manifest import read_manifest, write_csv
from speechbrain_scl.data.packing import open_audio, pack
from speechbrain_scl.errors import UserError
from speechbrain_scl.training.crops import read_crop


@pytest.fixture
def manifests(tmp_path):
    """Five recordings of two kinds with odd names; two share a manifest row."""
    rng = np.random.default_rng(0)
    rows = []
    for i, name in enumerate(
        ["a.wav", "b#1+2.flac", "c d.wav", "é.flac", "e.tar.wav"]
    ):
        path = str(tmp_path / name)
        soundfile.write(path, 0.1 * rng.normal(size=4000 + i), 16000)
        rows.append([f"u{i}", 0.25, path, 0, 4000 + i, f"s{i // 2}", "zh"])
    rows.append(["u5", 0.1, rows[0][2], 1000, 2600, "s0", "zh"])
    columns = ["ID", "duration", "wav", "start", "stop", "spk_id", "language"]
    for name, part in (("train", rows[:4]), ("valid", rows[4:])):
        write_csv(str(tmp_path / f"{name}.csv"), columns, part)
    return [str(tmp_path / "train.csv"), str(tmp_path / "valid.csv")]


@pytest.mark.parametrize("shard_bytes", [1, 10**4, 10**9])
def test_crops_are_the_same(manifests, tmp_path, shard_bytes):
    folder = tmp_path / "shards"
    done = pack(str(folder), manifests, shard_bytes)
    assert done["recordings"] == 5 and done["there"] == 0
    assert done["shards"] == {1: 5, 10**4: 3, 10**9: 1}[shard_bytes]
    assert done["shards"] == len(list(folder.glob("*.tar")))
    for manifest in manifests:
        packed = read_manifest(folder / os.path.basename(manifest))
        for old, new in zip(read_manifest(manifest), packed, strict=True):
            assert {**vars(old), "wav": ""} == {**vars(new), "wav": ""}
            assert ".tar#" in new.wav
            for length, draw in ((800, "x"), (1600, None), (9000, "y")):
                wanted = read_crop(old.wav, old.start, old.stop, length, draw)
                found = read_crop(new.wav, new.start, new.stop, length, draw)
                assert torch.equal(wanted, found)
        text = (folder / os.path.basename(manifest)).read_text()
        assert text.splitlines()[0].endswith("language")


def test_the_layout_is_webdatasets(manifests, tmp_path):
    """A sample is what has one name up to the first dot, side by side."""
    pack(str(tmp_path / "shards"), manifests)
    with tarfile.open(tmp_path / "shards" / "000000.tar") as tar:
        members = tar.getmembers()
        keys = [m.name.split(".", 1)[0] for m in members]
        assert keys == [f"{i // 2:08d}" for i in range(10)]
        assert all(m.isreg() and "/" not in m.name for m in members)
        endings = {m.name.split(".", 1)[1] for m in members}
        assert endings == {"wav", "flac", "spk"}
        audio = tar.extractfile(members[0]).read()
        speaker = tar.extractfile(members[1]).read().decode()
    assert soundfile.info(io.BytesIO(audio)).frames == 4000
    assert speaker == "s0"


def test_what_is_there_is_not_written_again(manifests, tmp_path, monkeypatch):
    folder = tmp_path / "shards"
    pack(str(folder), manifests, 1)
    first = (folder / "000000.tar").stat().st_mtime_ns
    whole = (folder / "000001.tar").read_bytes()
    (folder / "000001.tar").write_bytes(whole[:700])  # as no kill leaves it
    assert pack(str(folder), manifests, 1)["there"] == 4
    assert (folder / "000001.tar").read_bytes() == whole
    assert (folder / "000000.tar").stat().st_mtime_ns == first
    changed = read_manifest(manifests[0])[2].wav
    soundfile.write(changed, np.full(4100, 0.1), 16000)
    assert pack(str(folder), manifests, 1)["there"] == 4


def test_mistakes_are_told(manifests, tmp_path):
    train, valid = manifests
    with pytest.raises(UserError, match="different names"):
        pack(str(tmp_path / "shards"), [train, train])
    with pytest.raises(UserError, match="would be replaced"):
        pack(str(tmp_path), manifests)
    os.unlink(read_manifest(train)[1].wav)
    with pytest.raises(UserError, match=r"b#1\+2.flac: No such file"):
        pack(str(tmp_path / "shards"), manifests)


def test_a_shard_that_was_cut_is_told(manifests, tmp_path):
    pack(str(tmp_path / "shards"), manifests)
    wav = read_manifest(tmp_path / "shards" / "train.csv")[3].wav
    os.truncate(wav.split("#")[0], 9000)
    with pytest.raises(UserError, match="the shard ends .* bytes before"):
        read_crop(wav, 0, 4000, 800)
    assert open_audio("/a/b#1+2.wav") == "/a/b#1+2.wav"
