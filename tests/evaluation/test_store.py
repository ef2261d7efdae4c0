"""Embeddings on disk."""

import sys

import kaldiio
import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import (
    EmbeddingCache,
    folder_digest,
    load_embeddings,
    save_embeddings,
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
    with pytest.raises(UserError, match="'c d.wav' does: rename it"):
        save_embeddings(str(tmp_path / "a.ark"), {"c d.wav": np.ones(2)})
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


@pytest.fixture
def cached(tmp_path):
    """A cache's only file, and what it holds."""
    cache = EmbeddingCache(str(tmp_path / "cache"), "model")
    for i in range(3):
        cache.add({cache.key(str(i)): np.full(4, i, dtype=np.float32)})
        cache.save()
    assert len(list((tmp_path / "cache").iterdir())) == 3
    cache.join()
    (path,) = (tmp_path / "cache").iterdir()
    return path, cache.known


def read(path):
    return EmbeddingCache(str(path.parent), "model").known


def test_damage_is_told_and_computed_anew(cached, caplog):
    """No flipped bit is a traceback or another embedding."""
    path, known = cached
    assert len(known) == 3 and read(path).keys() == known.keys()
    content = path.read_bytes()
    for size in (0, 1, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert read(path) == {}
        assert "computed anew" in caplog.text and str(path) in caplog.text
        caplog.clear()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 60, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        for key, vector in read(path).items():
            assert np.array_equal(vector, known[key])


@pytest.mark.parametrize(
    "arrays",
    [
        {"ids": np.array(["a", "b"])},
        {"ids": np.array(["a", "b", "b"])},
        {"ids": np.arange(3)},
        {"embeddings": np.full((3, 4), np.nan, dtype=np.float32)},
        {"embeddings": np.zeros((3, 4))},
        {"embeddings": np.zeros(3, dtype=np.float32)},
    ],
)
def test_foreign_embeddings_are_told_and_no_cache(tmp_path, cached, arrays):
    path, _ = cached
    whole = {
        "ids": np.array(["a", "b", "c"]),
        "embeddings": np.zeros((3, 4), dtype=np.float32),
    }
    np.savez(path, **{**whole, **arrays})
    assert read(path) == {}
    with pytest.raises(UserError, match="no file of embeddings"):
        load_embeddings(str(path))
