"""Embeddings on disk."""

import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import (
    folder_digest,
    load_embeddings,
    read_cache,
    save_embeddings,
    write_cache,
)

NAMED = {f"ann/{i}.wav": np.arange(4, dtype=np.float32) + i for i in range(3)}


def test_kaldi_reads_what_is_saved(tmp_path):
    save_embeddings(str(tmp_path / "xvector.scp"), NAMED)
    found = dict(kaldiio.load_scp(str(tmp_path / "xvector.scp")))
    assert list(found) == list(NAMED)
    for name, vector in NAMED.items():
        assert np.array_equal(found[name], vector)


def test_other_endings_and_a_missing_library_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="end it in .npz, .ark or .scp"):
        save_embeddings(str(tmp_path / "a.csv"), NAMED)
    monkeypatch.setitem(sys.modules, "kaldiio", None)
    with pytest.raises(UserError, match="pip install kaldiio"):
        save_embeddings(str(tmp_path / "a.ark"), NAMED)


def test_the_digest_sees_content_and_names(tmp_path):
    (tmp_path / "a").write_text("1")
    first = folder_digest(str(tmp_path))
    (tmp_path / "a").write_text("2")
    second = folder_digest(str(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, folder_digest(str(tmp_path))}) == 3


def cache_of(tmp_path):
    path = str(tmp_path / "cache.npz")
    known = {bytes([i]) * 32: np.full(4, i, dtype=np.float32) for i in range(3)}
    write_cache(path, known)
    return path, known


def test_a_cache_is_read_as_written(tmp_path):
    path, known = cache_of(tmp_path)
    found = read_cache(path)
    assert found.keys() == known.keys()
    assert all(np.array_equal(found[key], known[key]) for key in known)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_a_truncated_cache_is_made_anew_with_a_word(tmp_path, caplog, kept):
    path, _ = cache_of(tmp_path)
    content = Path(path).read_bytes()
    size = kept if isinstance(kept, int) else int(kept * len(content))
    Path(path).write_bytes(content[:size])
    assert read_cache(path) == {}
    assert "computed anew" in caplog.text and path in caplog.text


def test_no_flipped_bit_is_a_traceback_or_another_embedding(tmp_path):
    path, known = cache_of(tmp_path)
    content = Path(path).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 150, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        Path(path).write_bytes(flipped)
        for key, vector in read_cache(path).items():
            assert np.array_equal(vector, known[key])


@pytest.mark.parametrize(
    "arrays",
    [
        {"sizes": np.array([4, 4])},
        {"sizes": np.array([4, 4, 5])},
        {"sizes": np.array([4.0, 4.0, 4.0])},
        {"values": np.full(12, np.nan, dtype=np.float32)},
        {"values": np.zeros(12)},
        {"keys": np.zeros((3, 4), dtype=np.uint8)},
    ],
)
def test_a_foreign_cache_is_made_anew(tmp_path, arrays):
    path = tmp_path / "cache.npz"
    whole = {
        "keys": np.zeros((3, 32), dtype=np.uint8),
        "sizes": np.array([4, 4, 4]),
        "values": np.zeros(12, dtype=np.float32),
    }
    np.savez(path, **{**whole, **arrays})
    assert read_cache(str(path)) == {}


@pytest.mark.parametrize("kept", [0, 1, 40, 200, -1])
def test_truncated_embeddings_are_told(tmp_path, kept):
    path = tmp_path / "voices.npz"
    save_embeddings(str(path), NAMED)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="voices.npz: no file of embeddings"):
        load_embeddings(str(path))
