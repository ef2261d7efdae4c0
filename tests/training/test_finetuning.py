"""Starting from what others trained, in SpeechBrain's own layout."""

import pytest
import torch

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.errors import UserError
from speechbrain_scl.training.finetuning import start_from


def labels_of(*speakers):
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(speakers)
    return encoder


def modules(n_classes, dim=3):
    return {
        "embedding_model": torch.nn.Linear(5, dim),
        "classifier": Classifier(dim, out_neurons=n_classes),
    }


@pytest.fixture
def hub(tmp_path):
    """The files of speechbrain/spkrec-ecapa-voxceleb, of another size."""
    trained = modules(3)
    for name, module in trained.items():
        torch.save(module.state_dict(), tmp_path / f"{name}.ckpt")
    labels_of("id1", "id2", "id3").save(tmp_path / "label_encoder.txt")
    (tmp_path / "hyperparams.yaml").write_text("sample_rate: 16000\n")
    return str(tmp_path), trained


def test_speakers_of_the_same_name_keep_their_vectors(hub, tmp_path):
    source, trained = hub
    ours = modules(4)
    fresh = ours["classifier"].weight.detach().clone()
    labels = labels_of("new", "id3", "another", "id1")
    assert start_from(source, ours, labels, str(tmp_path)) == 2
    for name, value in trained["embedding_model"].state_dict().items():
        assert torch.equal(ours["embedding_model"].state_dict()[name], value)
    old = trained["classifier"].weight
    found = ours["classifier"].weight
    for row, wanted in enumerate((fresh[0], old[2], fresh[2], old[0])):
        assert torch.equal(found[row], wanted)
    # An encoder without classes is enough.
    (tmp_path / "label_encoder.txt").unlink()
    assert start_from(source, modules(4), labels, str(tmp_path)) == 0


def test_what_does_not_fit_or_cannot_be_reached_is_told(hub, tmp_path):
    absent = "speechbrain/no-such-repository"  # and the tests are off line
    fetched = str(tmp_path / "fetched")
    for source, dim in ((hub[0], 2), (absent, 3)):
        with pytest.raises(
            UserError, match=f"pretrained={source}.*same settings"
        ):
            start_from(source, modules(4, dim), labels_of("a"), fetched)
