"""Giving a trained encoder away: its card, the hub, ONNX."""

import builtins
import json
import shutil
import time
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from huggingface_hub import HfApi, ModelCard, constants

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference import SpeakerRecognition
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.command_line.main import main
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.store import file_digest
from speechbrain_scl.release import onnx
from speechbrain_scl.training.finetuning import start_from


@pytest.fixture
def model(trained, tmp_path):
    """An inference folder of one's own."""
    return shutil.copytree(trained / "inference", tmp_path / "model")


@pytest.fixture
def metrics(model, tmp_path):
    """What a verification of it found."""
    found = {
        "eer": 0.0123,
        "eer_ci": [0.01, 0.02],
        "min_dcf": 0.25,
        "min_dcf_ci": None,
        "n_trials": 1234,
        "n_targets": 12,
        "n_speakers": 40,
        "p_target": 0.01,
    }
    path = tmp_path / "metrics.json"
    content = {
        "trials": {"voxceleb1-o": found, "empty": {**found, "eer": None}},
        "model": "model/embedding_model.ckpt",
        "model_sha256": file_digest(model / "embedding_model.ckpt"),
        "backend": "cosine",
        "score_norm": "as-norm",
        "crops": None,
        "enrolment": "mean",
    }
    path.write_text(json.dumps(content))
    return path


def card_of(model, metrics):
    """The command that writes the card."""
    return [
        "card",
        str(model),
        f"--metrics={metrics}",
        "--training-data=VoxCeleb1 dev",
        "--license=cc-by-4.0",
        "--language",
        "en",
        "--repo=me/ecapa",
    ]


def test_the_card_of_plain_classification_says_so(model, metrics):
    path = model / "training.json"
    found = json.loads(path.read_text())
    for key in ("attention", "balancer", "balance_at"):
        del found[key]
    path.write_text(json.dumps({**found, "contrastive_loss": None}))
    measured = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({**measured, "enrolment": None}))
    main(card_of(model, metrics))
    text = (model / "README.md").read_text()
    assert "alone, without a contrastive loss" in text
    assert "ontrastive loss with" not in text and "enrolment None" not in text
    path.unlink()
    main(card_of(model, metrics))
    assert "is not recorded" in (model / "README.md").read_text()


def refused(arguments):
    """What a command says that ends without a traceback."""
    with pytest.raises(SystemExit) as error:
        main([str(argument) for argument in arguments])
    return str(error.value)


def test_the_card_holds_measured_figures(model, metrics):
    before = load_encoder(str(model), str(model.parent / "cache")).key
    main(card_of(model, metrics))
    card = ModelCard.load(model / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.language == ["en"]
    assert card.data.library_name == "speechbrain"
    figures = [
        (r.dataset_name, r.metric_type, r.metric_value)
        for r in card.data.eval_results
    ]
    assert figures == [
        ("voxceleb1-o", "eer", 1.23),
        ("voxceleb1-o", "mindcf", 0.25),
        ("empty", "mindcf", 0.25),
    ]
    for said in (
        "VoxCeleb1 dev",
        'from_hparams("me/ecapa"',
        " 1.23 ",
        "1,234",
        "backend cosine, as-norm normalised, enrolment mean",
        "16000 Hz",
        "2210.16622",
    ):
        assert said in card.text
    # The experiment's own objective, not a fixed text
    for said in (
        "`AdditiveAngularMargin(margin=0.2, scale=30)`",
        "SupConMarginLoss(margin=0.2, ",
        "ClassAwareAttention(scale=10.0",
        "MinNormBalancer(normalize=l2",
    ):
        assert said in card.text
    # Voices that were enrolled before the card stay this model's.
    after = load_encoder(str(model), str(model.parent / "cache")).key
    assert before == after


def test_figures_of_another_model_are_refused(model, metrics):
    with open(model / "embedding_model.ckpt", "ab") as file:
        file.write(b"x")
    assert "measured another model" in refused(card_of(model, metrics))
    assert not (model / "README.md").exists()
    metrics.write_text('{"trials": 3}')
    assert "not the metrics.json" in refused(card_of(model, metrics))
    (model / "embedding_model.ckpt").unlink()
    assert "no embedding_model.ckpt" in refused(card_of(model, metrics))


def test_upload_sends_what_is_public(model, metrics, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda _, *args, **kw: calls.append((args, kw))
    )
    monkeypatch.setattr(
        HfApi, "upload_folder", lambda _, **kw: calls.append(kw) or "the place"
    )
    assert "write its model card first" in refused(["upload", model, "me/x"])
    main(card_of(model, metrics))
    (model / "secret.wav").write_bytes(b"RIFF")

    main(["upload", str(model), "me/x"])
    said = capsys.readouterr().out
    assert "nothing sent" in said and "secret" not in said
    assert not calls
    main(["upload", str(model), "me/x", "--private", "--yes"])
    assert "the place" in capsys.readouterr().out
    assert calls[0] == (("me/x",), {"private": True, "exist_ok": True})
    assert sorted(calls[1]["allow_patterns"]) == [
        "README.md",
        "classifier.ckpt",
        "embedding_model.ckpt",
        "hyperparams.yaml",
        "label_encoder.ckpt",
        "training.json",
    ]

    def no(*args, **kwargs):
        raise RuntimeError("403 Forbidden")  # any client's own error

    monkeypatch.setattr(HfApi, "create_repo", no)
    said = refused(["upload", model, "me/x", "--yes"])
    assert "me/x: not sent" in said and "HF_TOKEN" in said


def test_onnx_gives_the_same_scores(model, corpus, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    main(["export", str(model), str(path)])
    assert "onnxruntime differs by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(path))
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["sample_rate"] == "16000"
    assert session.get_inputs()[0].shape == ["batch", "time"]
    assert session.get_outputs()[0].shape[0] == "batch"

    recognition = SpeakerRecognition.from_hparams(
        str(model), savedir=str(tmp_path / "cache")
    )
    wavs = [
        soundfile.read(p, dtype="float32")[0][None]
        for p in sorted((corpus / "wav").rglob("*.wav"))[:2]
    ]
    vectors = [session.run(None, {"waveform": wav})[0][0] for wav in wavs]
    first, second = (v / np.linalg.norm(v) for v in vectors)
    wanted, _ = recognition.verify_batch(*map(torch.from_numpy, wavs))
    assert first @ second == pytest.approx(wanted.item(), abs=1e-4)


class Around:
    """An encoder as a loaded model holds it."""

    sample_rate = 16000

    def __init__(self, encoder):
        self.mods = SimpleNamespace(
            compute_features=Fbank(n_mels=80),
            mean_var_norm=InputNormalization(
                norm_type="sentence", std_norm=False
            ),
            embedding_model=encoder.eval(),
        )
        self.classifier = SimpleNamespace(mods=self.mods)

    def __call__(self, wavs):
        lens = torch.ones(len(wavs))
        feats = self.mods.mean_var_norm(self.mods.compute_features(wavs), lens)
        with torch.no_grad():
            return self.mods.embedding_model(feats, lens).flatten(1)


def test_onnx_of_other_encoders(tmp_path, capfd):
    path = str(tmp_path / "model.onnx")
    resnet = ResNet(
        80, channels=[8, 8, 8, 8], block_sizes=[1, 1, 1, 1], lin_neurons=16
    )
    assert onnx.export_onnx(Around(resnet), path) < 1e-5
    # Its pooling adds noise, utterance by utterance.
    xvector = Xvector(in_channels=80, tdnn_channels=[8] * 5, lin_neurons=16)
    with pytest.raises(UserError, match="expressed in ONNX .*") as error:
        onnx.export_onnx(Around(xvector), path)
    assert len(str(error.value)) < 500
    assert capfd.readouterr() == ("", "")


class MeanOverTime(torch.nn.Module):
    """The least that is an encoder."""

    def forward(self, features, lengths):
        return features.mean(1)


def test_what_onnx_cannot_say_is_told(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("of before")
    encoder = Around(MeanOverTime())
    monkeypatch.setattr(onnx, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match="would differ from PyTorch's by"):
        onnx.export_onnx(encoder, str(path))

    def encode(features, lengths):
        return features if features.sum() > 0 else -features

    monkeypatch.setattr(
        encoder.classifier.mods.embedding_model, "forward", encode
    )
    with pytest.raises(UserError, match="cannot be expressed in ONNX"):
        onnx.export_onnx(encoder, str(path))
    encoder.classifier.mods.compute_features = torch.nn.Identity()
    with pytest.raises(UserError, match="features are Identity"):
        onnx.export_onnx(encoder, str(path))

    def absent(name, *args):
        if name == "onnxruntime":
            raise ImportError(name, name=name)
        return imported(name, *args)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'speechbrain_scl\[onnx"):
        onnx.export_onnx(encoder, str(path))
    assert path.read_text() == "of before"


def test_without_a_network_nobody_waits(tmp_path, monkeypatch):
    """The hub's client would try again and again for half a minute."""
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    nobody = "http://127.0.0.1:9"  # the port to discard, where none listens
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        nobody + "/{repo_id}/resolve/{revision}/{filename}",
    )
    with pytest.raises(UserError, match="ecapa-voxceleb: cannot be loaded"):
        load_encoder("ecapa-voxceleb", str(tmp_path))
    with pytest.raises(UserError, match="pretrained=ecapa.*: its encoder"):
        start_from("ecapa", {}, CategoricalEncoder(), str(tmp_path))
    assert waits == []
