"""What a yaml alone can change: encoders, classifiers, schedules, starts."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
import train_speaker_embeddings
import yaml
from commands import RECIPE, ROOT, SMALL, read_rows, within
from tensorboard.backend.event_processing import event_accumulator

from speechbrain.inference import EncoderClassifier
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.errors import UserError

VARIANTS = (ROOT / "docs" / "variants.md").read_text(encoding="utf-8")
BLOCKS = {
    re.search(r"!new:[\w.]*?(\w+)\n", block)[1]: block
    for block in re.findall(r"```yaml\n(.*?)```", VARIANTS, re.DOTALL)
}
TINY = {
    "Xvector": "--embedding_model={tdnn_channels: [8, 8, 8, 8, 16]}",
    "ResNet": "--embedding_model={channels: [4, 4, 4, 4],"
    " block_sizes: [1, 1, 1, 1]}",
    "LengthsCapableSequential": "--emb_dim=192",
}
# Takes what 3D-Speaker's takes, where its clone is not on the path
CAMPPLUS = """
import torch
class CAMPPlus(torch.nn.Linear):
    def __init__(self, feat_dim, embedding_size):
        super().__init__(feat_dim, embedding_size)
    def forward(self, x):
        return super().forward(x).mean(1)
"""


def replaced(block, text):
    """A training file with the keys of a block of the page, or with more."""
    for key, _ in yaml.compose(block).value:
        old = rf"(?m)^{key.value}:.*\n(?:[ \t]+.*\n)*"
        assert len(re.findall(old, text)) <= 1
        text = re.sub(old, "", text)
    return f"{text}\n{block}"


@pytest.fixture
def run(corpus, tmp_path, monkeypatch):
    """Trains in this process; returns the output folder."""
    monkeypatch.chdir(RECIPE)

    def start(*options, blocks=(), epochs=1):
        text = Path(SMALL[0]).read_text(encoding="utf-8")
        for name in blocks:
            text = replaced(BLOCKS[name], text)
        (tmp_path / "train.yaml").write_text(text, encoding="utf-8")
        other = [TINY[name] for name in blocks if name in TINY]
        train_speaker_embeddings.main(
            [
                str(tmp_path / "train.yaml"),
                *(SMALL[1:-1] + other if other else SMALL[1:]),
                f"--number_of_epochs={epochs}",
                *within(corpus, tmp_path / "out"),
                *options,
            ]
        )
        return tmp_path / "out"

    return start


def without_this_package(output):
    """What a training left, as SpeechBrain loads it."""
    source, saved = str(output / "inference"), str(output / "cache")
    return EncoderClassifier.from_hparams(source, savedir=saved)


ENCODERS = ["Xvector", "ResNet", "LengthsCapableSequential"]
CLASSIFIERS = ["SubCentreClassifier", "SampledClassifier"]
CLEANING = ["LabelCleaner", "NearSpeakers"]
SCHEDULES = ["WarmupExponential", "MarginWarmup", "Augmenter", "EpochLogger"]
assert {"WavLM", *ENCODERS, *CLASSIFIERS, *CLEANING, *SCHEDULES} == set(BLOCKS)


@pytest.mark.parametrize("blocks", zip(ENCODERS, 2 * CLASSIFIERS))
def test_encoders_and_classifiers(run, tmp_path, blocks, monkeypatch):
    if not importlib.util.find_spec("speakerlab"):
        clone = tmp_path / "speakerlab" / "models" / "campplus"
        clone.mkdir(parents=True)
        (clone / "DTDNN.py").write_text(CAMPPLUS)
        monkeypatch.syspath_prepend(tmp_path)
    output = run("--out_n_neurons=4", blocks=blocks)
    encoder = without_this_package(output)
    vectors = encoder.encode_batch(torch.randn(2, 16000))
    assert vectors.flatten(1).shape == (2, 192)
    *_, speakers = encoder.classify_batch(torch.randn(1, 16000))
    assert set(speakers) <= set(encoder.hparams.label_encoder.lab2ind)
    text = (output / "train_log.txt").read_text()
    assert "attention" in text and "weight_contrastive" in text


def test_wavlm_in_front(run, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    sizes |= {"num_hidden_layers": 1, "num_conv_pos_embedding_groups": 2}
    sizes |= {"conv_dim": [8] * 7, "num_buckets": 8}
    config = transformers.WavLMConfig(**sizes)
    source = str(tmp_path / "wavlm")
    transformers.WavLMModel(config).save_pretrained(source)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(source)
    features = f"--compute_features={{source: {source}}}"
    output = run(features, "--n_mels=8", blocks=["WavLM"])
    encoder = without_this_package(output)
    assert encoder.encode_batch(torch.randn(2, 16000)).shape == (2, 1, 192)
    assert "weight_contrastive" in (output / "train_log.txt").read_text()


def test_everything_at_once(run, trained):
    options = [
        f"--pretrained={trained / 'inference'}",
        "--speeds=[0.9, 1.0, 1.1]",
        "--fea_augment={augment_prob: 1.0}",
        "--margin_warmup={epochs: 2}",
        "--spread_over=session",
        "--average_checkpoints=2",
        "--lr_annealing={warmup_epochs: 0.5, final: 0.0001}",
        "--lr=0.001",
    ]
    for epochs in (1, 2):  # it goes on, and does not start anew
        output = run(*options, blocks=SCHEDULES, epochs=epochs)
    said = (output / "log.txt").read_text()
    assert said.count("the class vectors of 4 of 12 speakers") == 1

    # The inference folder holds the mean of both epochs.
    checkpoints = Checkpointer(output / "save").list_checkpoints()
    first, second, found = (
        torch.load(path / "embedding_model.ckpt", weights_only=True)
        for path in (*(c.path for c in checkpoints), output / "inference")
    )
    for name, value in found.items():
        if value.is_floating_point():
            mean = (first[name] + second[name]) / 2
            torch.testing.assert_close(value, mean)
    assert not torch.equal(first["fc.conv.weight"], second["fc.conv.weight"])

    log = (output / "train_log.txt").read_text()
    assert log.count("valid EER") == 2
    events = event_accumulator.EventAccumulator(
        str(output / "tensorboard")
    ).Reload()
    curves = {"contrastive/train", "weight_contrastive/train", "EER/valid"}
    curves |= {"grad_norm_classification/train", "attention/train", "lr"}
    assert curves <= set(events.Tags()["scalars"])
    rates = [event.value for event in events.Scalars("lr")]
    wanted = [0.0001, 0.001 * 0.1 ** (1 / 3)]
    assert rates == pytest.approx(wanted, rel=1e-3)


def test_suspected_labels_are_told_and_left_out(run, tmp_path):
    output = run(blocks=CLEANING, epochs=2)
    said = (output / "log.txt").read_text()
    told = re.findall(r"Epoch (\d): (\d+) of (\d+) utterances may", said)
    utterances = read_manifest(output / "save" / "train.csv")
    assert [int(epoch) for epoch, *_ in told] == [1, 2]
    rows = read_rows(output / "suspects.csv")
    assert [str(len(rows)), str(len(utterances))] == list(told[-1][1:])
    speakers = {u.ID: u.spk_id for u in utterances}
    for row in rows:
        assert speakers[row["utterance"]] == row["speaker"]
        assert row["best_speaker"] in set(speakers.values()) - {row["speaker"]}
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins) and all(m < 0 for m in margins)

    suspects = tmp_path / "suspects.csv"
    suspects.write_text(f"utterance\n{utterances[0].ID}\n")
    other = f"--output_folder={tmp_path / 'cleaned'}"
    run(f"--without={suspects}", "--spread_over=session", other)
    said = (tmp_path / "cleaned" / "log.txt").read_text()
    assert f"1 of {len(utterances)} utterances left out" in said
    suspects.write_text("utterance\nnobody--s0--x\n")
    with pytest.raises(UserError, match="none of its 1 utterances"):
        run(f"--without={suspects}", f"{other}2")


def test_half_precision_and_compilation(run, trained, monkeypatch):
    compiled = []

    def compiles(module, **kwargs):
        # Generating code takes a minute; the traced graphs and their gradients
        # are the same.
        compiled.append(type(module).__name__)
        return torch_compile(module, backend="aot_eager", **kwargs)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compiles)
    keys = "--compile_module_keys=embedding_model"
    output = run("--precision=bf16", "--compile", keys)
    assert compiled == ["ECAPA_TDNN"]
    first, second = (
        re.search(r"train loss: ([\d.]+)", (x / "train_log.txt").read_text())
        for x in (output, trained)
    )
    assert float(first[1]) == pytest.approx(float(second[1]), rel=0.05)

    # What is left is an encoder like any other, and goes on without either.
    model = "inference/embedding_model.ckpt"
    first, second = (
        {n: v.dtype for n, v in torch.load(x / model).items()}
        for x in (output, trained)
    )
    assert first == second
    run(epochs=2)
    assert "epoch: 2" in (output / "train_log.txt").read_text()


def test_what_does_not_fit_is_told(run, trained):
    keys = "--compile_module_keys"
    for message, *options in (
        ("give --compile with it", f"{keys}=embedding_model"),
        ("encoder: the modules are", "--compile", f"{keys}=encoder"),
        (
            "pretrained=.*same settings",
            *(f"--pretrained={trained / 'inference'}", "--emb_dim=100"),
        ),
        ("speeds=.*0.9, 1.0, 1.1", "--speeds=[3]"),
        ("neurons to 12", "--speeds=[0.9, 1, 1.1]", "--out_n_neurons=4"),
    ):
        with pytest.raises(UserError, match=message):
            run(*options)
