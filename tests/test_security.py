"""Files from others are data: loading them runs nothing of theirs."""

import os
import shutil

import numpy as np
import pytest
import torch

from speechbrain_scl.data.download import fetch_file
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.store import load_embeddings
from speechbrain_scl.training.checkpoints import CompleteCheckpointer


class Payload:
    """What a pickle executes when it is loaded without care."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def payload(tmp_path):
    """What leaves a folder behind where it is loaded as a pickle."""
    executed = tmp_path / "executed"
    torch.save(Payload(executed), tmp_path / "bad.ckpt")
    torch.load(tmp_path / "bad.ckpt", weights_only=False)
    executed.rmdir()
    yield Payload(executed)
    assert not executed.exists()


def test_a_checkpoint_with_code_is_refused(tmp_path, payload):
    checkpointer = CompleteCheckpointer(
        tmp_path / "save", {"layer": torch.nn.Linear(2, 2)}
    )
    folder = checkpointer.save_checkpoint().path
    torch.save(payload, folder / "layer.ckpt")
    (folder / "checksums.json").unlink()  # which who wrote it could write too
    with pytest.raises(UserError, match="CKPT.*cannot be loaded.*Weights only"):
        checkpointer.recover_if_possible()


def test_a_model_with_code_is_refused(tmp_path, payload, untrained):
    folder = shutil.copytree(untrained, tmp_path / "model")
    torch.save(payload, folder / "embedding_model.ckpt")
    with pytest.raises(UserError, match="model: cannot be loaded"):
        load_encoder(str(folder), str(tmp_path / "loaded"))


def test_embeddings_hold_no_objects(tmp_path, payload):
    path = str(tmp_path / "bad.npz")
    objects = np.array([payload], dtype=object)
    np.savez(path, ids=objects, embeddings=objects)
    with pytest.raises(UserError, match="no file of embeddings"):
        load_embeddings(path)


def test_a_url_names_no_folder_above(tmp_path):
    """What is fetched lies below its own folder, whatever the URL ends in."""
    with pytest.raises(UserError, match="the download.* failed"):
        fetch_file("http://127.0.0.1:9/lists/..", str(tmp_path / "save"))
    assert list((tmp_path / "save").iterdir()) == []
