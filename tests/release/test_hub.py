"""Giving a trained encoder away: its card, the hub, ONNX."""

import json
import shutil
import sys
import time
from unittest.mock import Mock

import onnxruntime
import pytest
import soundfile
import torch
from huggingface_hub import HfApi, ModelCard, constants

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain_scl.command_line.main import main
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.store import file_digest
from speechbrain_scl.release import onnx
from speechbrain_scl.training.finetuning import start_from
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def model(trained, tmp_path):
    """An inference folder of one's own."""
    return shutil.copytree(trained / "inference", tmp_path / "model")


@pytest.fixture
def metrics(model, tmp_path):
    """What a verification of it found."""
    found = {"eer": 0.0123, "eer_ci": [0.01, 0.02], "p_target": 0.01}
    found |= {"min_dcf": 0.25, "min_dcf_ci": None}
    found |= {"n_trials": 1234, "n_targets": 12, "n_speakers": 40}
    path = tmp_path / "metrics.json"
    content = {
        "trials": {"voxceleb1-o": found, "empty": {**found, "eer": None}},
        "model": "model/embedding_model.ckpt",
        "model_sha256": file_digest(model / "embedding_model.ckpt"),
        **{"backend": "cosine", "score_norm": "as-norm"},
        **{"crops": None, "enrolment": "mean"},
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def card(model, metrics):
    """Writes the card by its command, and reads it."""
    asked = ["card", str(model), f"--metrics={metrics}", "--language", "en"]
    asked += ["--training-data=VoxCeleb1 dev", "--license=cc-by-4.0"]

    def write():
        main([*asked, "--repo=me/ecapa"])
        return ModelCard.load(model / "README.md")

    return write


def refused(run, *arguments):
    """What a command says that ends without a traceback."""
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    return str(error.value)


def test_the_card_holds_measured_figures(model, metrics, card):
    before = SpeakerVerifier.load(model).key
    found = card()
    assert found.data.license == "cc-by-4.0" and found.data.language == ["en"]
    assert found.data.library_name == "speechbrain"
    assert [
        (figure.dataset_name, figure.metric_type, figure.metric_value)
        for figure in found.data.eval_results
    ] == [
        ("voxceleb1-o", "eer", 1.23),
        ("voxceleb1-o", "mindcf", 0.25),
        ("empty", "mindcf", 0.25),
    ]
    for said in (
        *("VoxCeleb1 dev", 'from_hparams("me/ecapa"', " 1.23 ", "1,234"),
        "backend cosine, as-norm normalised, enrolment mean",
        *("16000 Hz", "2210.16622"),
        # The experiment's own objective, not a fixed text
        "`AdditiveAngularMargin(margin=0.2, scale=30,",
        "SupConMarginLoss(margin=0.2, ",
        "ClassAwareAttention(scale=10.0",
        "MinNormBalancer(normalize=l2",
    ):
        assert said in found.text
    # Voices that were enrolled before the card stay this model's.
    assert SpeakerVerifier.load(model).key == before

    # Of plain classification it says so, or that nothing is known.
    path = model / "training.json"
    training = json.loads(path.read_text())
    for key in ("attention", "balancer", "balance_at"):
        del training[key]
    path.write_text(json.dumps({**training, "contrastive_loss": None}))
    content = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({**content, "enrolment": None}))
    text = card().text
    assert "alone, without a contrastive loss" in text
    assert "ontrastive loss with" not in text and "enrolment None" not in text
    path.unlink()
    assert "is not recorded" in card().text


def test_figures_of_another_model_are_refused(model, metrics, card):
    with open(model / "embedding_model.ckpt", "ab") as file:
        file.write(b"x")
    assert "measured another model" in refused(card)
    assert not (model / "README.md").exists()
    metrics.write_text('{"trials": 3}')
    assert "not the metrics.json" in refused(card)
    (model / "embedding_model.ckpt").unlink()
    assert "no embedding_model.ckpt" in refused(card)


def test_upload_sends_what_is_public(model, card, capsys, monkeypatch):
    create, send = Mock(), Mock(return_value="the place")
    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", send)
    upload = ["upload", str(model), "me/x"]
    assert "write its model card first" in refused(main, upload)
    card()
    (model / "secret.wav").write_bytes(b"RIFF")
    capsys.readouterr()
    main(upload)
    said = capsys.readouterr().out
    assert "nothing sent" in said and "secret" not in said
    assert not create.called and not send.called
    main([*upload, "--private", "--yes"])
    assert "the place" in capsys.readouterr().out
    create.assert_called_with("me/x", private=True, exist_ok=True)
    sent = "README.md classifier.ckpt embedding_model.ckpt hyperparams.yaml "
    sent += "label_encoder.ckpt training.json"
    assert sorted(send.call_args.kwargs["allow_patterns"]) == sent.split()
    create.side_effect = RuntimeError("403 Forbidden")  # a client's own error
    said = refused(main, [*upload, "--yes"])
    assert "me/x: not sent" in said and "HF_TOKEN" in said


def test_onnx_gives_the_same_scores(untrained, spoken, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    main(["export", untrained, str(path)])
    assert "onnxruntime differs by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(path))
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["sample_rate"] == "16000"
    assert session.get_inputs()[0].shape == ["batch", "time"]
    assert session.get_outputs()[0].shape[0] == "batch"
    wavs = [soundfile.read(p, dtype="float32")[0][None] for p in spoken[:2]]
    found = [session.run(None, {"waveform": wav})[0] for wav in wavs]
    encoder = load_encoder(untrained, str(tmp_path))
    wanted = [encoder(torch.tensor(wav)) for wav in wavs]
    torch.testing.assert_close(
        torch.cosine_similarity(*map(torch.tensor, found)),
        torch.cosine_similarity(*wanted),
        rtol=0,
        atol=1e-4,
    )


class MeanOverTime(torch.nn.Module):
    """The least that is an encoder."""

    def forward(self, features, lengths):
        return features.mean(1)


def test_onnx_of_other_encoders(untrained, tmp_path, capfd, monkeypatch):
    path = tmp_path / "model.onnx"

    def around(encoder):
        loaded = load_encoder(untrained, str(tmp_path))
        mods = loaded.classifier.mods
        mods.compute_features = Fbank(n_mels=24)
        mods.embedding_model = encoder.eval().requires_grad_(False)
        return loaded

    resnet = ResNet(24, channels=[8] * 4, block_sizes=[1] * 4, lin_neurons=16)
    assert onnx.export_onnx(around(resnet), str(path)) < 1e-5
    path.write_text("of before")

    def not_written(encoder, said):
        with pytest.raises(UserError, match=said) as error:
            onnx.export_onnx(encoder, str(path))
        assert len(str(error.value)) < 500
        assert path.read_text() == "of before"

    # Its pooling adds noise, utterance by utterance.
    xvector = Xvector(in_channels=24, tdnn_channels=[8] * 5, lin_neurons=16)
    encoder = around(xvector)
    capfd.readouterr()
    not_written(encoder, "expressed in ONNX ")
    assert capfd.readouterr() == ("", "")
    encoder = around(MeanOverTime())
    with monkeypatch.context() as here:
        here.setattr(onnx, "TOLERANCE", 0.0)
        not_written(encoder, "would differ from PyTorch's by")
    encoder.classifier.mods.compute_features = torch.nn.Identity()
    not_written(encoder, "features are Identity")

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    not_written(encoder, "missing: pip install onnx onnxscript onnxruntime")


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
