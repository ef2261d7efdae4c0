"""Embeddings on disk."""

import sys

import kaldiio
import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import folder_digest, save_embeddings

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
