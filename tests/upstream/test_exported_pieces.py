"""The exported pieces: the package's values, and their own tests, here and
with the oldest Python, torch and scipy that SpeechBrain allows.
"""

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from commands import ROOT
from hyperpyyaml import load_hyperpyyaml
from upstream_tree import CNCELEB, VOXCELEB, export, load, run

from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.samplers import SpeakerBatchSampler

OLDEST = os.environ.get("OLDEST_PYTHON", ROOT / "build/oldest/bin/python")
LOSSES = ROOT / "upstream" / "losses"
PLACE = LOSSES / "speechbrain" / "nnet" / "loss"
THEIRS = load(PLACE / "supcon_margin_loss.py")
BALANCING = load(PLACE / "gradient_balancing.py")
SAMPLER = load(LOSSES / "speaker_batch_sampler.py")


def run_exported_tests(tree, python):
    """The unit tests and examples of the exported modules."""
    said = run(
        tree,
        *["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull],
        *["--rootdir", tree, "--doctest-modules", "tests/unittests"],
        "speechbrain/nnet/loss/supcon_margin_loss.py",
        "speechbrain/nnet/loss/gradient_balancing.py",
        "speechbrain/dataio/sampler.py",
        python=python,
    )
    assert " passed" in said and "skipped" not in said


def test_the_exported_tests_and_examples_pass(tree):
    run_exported_tests(tree, sys.executable)


@pytest.mark.skipif(
    not Path(OLDEST).is_file(), reason="CONTRIBUTING tells how to make it"
)
def test_they_pass_with_the_oldest_of_everything(tree, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tree, old, symlinks=True)
    for path in (old / "speechbrain").rglob("*.py"):
        defer_annotations(path)
    run_exported_tests(old, OLDEST)


def defer_annotations(path):
    """SpeechBrain declares Python 3.8, but some of its modules have
    annotations that can be evaluated from 3.9 or 3.10 on only."""
    text = path.read_text()
    parsed = ast.parse(text)
    annotations = [
        part
        for node in ast.walk(parsed)
        for part in (
            getattr(node, "annotation", None),
            getattr(node, "returns", None),
        )
        if part is not None
    ]
    if any(
        isinstance(part, ast.BinOp)
        or isinstance(part, ast.Subscript)
        and getattr(part.value, "id", "") in ("list", "dict", "tuple", "type")
        for annotation in annotations
        for part in ast.walk(annotation)
    ):
        lines = text.splitlines(keepends=True)
        after = parsed.body[0].end_lineno if ast.get_docstring(parsed) else 0
        lines.insert(after, "from __future__ import annotations\n")
        path.write_text("".join(lines))


def objective(path):
    """The method's objects of a training yaml."""
    # The installed SpeechBrain does not have the exported modules.
    text = path.read_text().replace("speechbrain.nnet.loss.", "")
    names = ("contrastive_loss", "attention", "balancer")
    names += ("aam_margin", "aam_scale", "aam_loss", "objective")
    blocks = [
        text[key.start_mark.index : value.end_mark.index]
        for key, value in yaml.compose(text).value
        if key.value in names
    ]
    made = load_hyperpyyaml("\n".join(blocks))
    if "objective" in made:
        parts = made["objective"]
        return [parts.contrastive, parts.attention, parts.balancer]
    return [made[name] for name in names[:3]]


@pytest.fixture
def batch():
    """Embeddings twice, their labels, and vectors of the classes."""
    torch.manual_seed(0)
    first = torch.randn(24, 16, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    return first, second, torch.randint(0, 8, (24,)), torch.randn(8, 16)


@pytest.mark.parametrize("recipe", [VOXCELEB, CNCELEB])
def test_a_step_of_the_recipe_is_the_packages(tree, recipe, batch, monkeypatch):
    """With the settings of both yaml files, which cannot drift apart."""
    monkeypatch.syspath_prepend(str(PLACE))
    *embeddings, labels, classes = batch
    weights = []
    for z, path in zip(
        embeddings,
        (
            ROOT / recipe / "hparams" / "ecapa_scl.yaml",
            tree / recipe / "hparams" / "train_ecapa_tdnn_scl.yaml",
        ),
        strict=True,
    ):
        contrast, attention, balancer = objective(path)
        classification = F.cross_entropy(10 * z @ classes.T, labels)
        contrastive = contrast(z, labels, attention(z, labels, classes))
        weights.append(balancer([classification, contrastive], z))
        (weights[-1] @ torch.stack([classification, contrastive])).backward()
    torch.testing.assert_close(*weights)
    torch.testing.assert_close(
        *(z.grad for z in embeddings), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("recipe", [VOXCELEB, CNCELEB])
@pytest.mark.parametrize(
    "name",
    [
        *["sentence_len", "speakers_per_batch", "utterances_per_speaker"],
        *["sample_rate", "n_mels", "embedding_model.channels"],
        *["wav_augment.max_augmentations", "add_noise.snr_high"],
    ],
)
def test_other_settings_of_the_recipe_are_the_packages(tree, recipe, name):
    ours, theirs = (
        export.setting(path / recipe / "hparams" / file, name)
        for path, file in (
            (ROOT, "ecapa_scl.yaml"),
            (tree, "train_ecapa_tdnn_scl.yaml"),
        )
    )
    assert theirs == ours


@pytest.mark.parametrize("attention_on", ["negatives", "logits"])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_loss_and_attention_are_the_packages(margin, attention_on, batch):
    first, second, labels, classes = batch
    attention = ClassAwareAttention(scale=10.0)(first, labels, classes)
    torch.testing.assert_close(
        THEIRS.ClassAwareAttention(10.0)(first, labels, classes), attention
    )
    options = {
        "margin": margin,
        "temperature": 0.2,
        "attention_on": attention_on,
    }
    ours = SupConMarginLoss(**options)(first, labels, attention)
    theirs = THEIRS.SupConMarginLoss(**options)(second, labels, attention)
    torch.testing.assert_close(theirs, ours)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(second.grad, first.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preference", [(1.0, 1.0), (5.0, 1.0)])
@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_balancer_is_the_packages(normalize, preference):
    torch.manual_seed(0)
    for size in (1e-5, 1.0, 1e5):
        z = torch.randn(6, 4, requires_grad=True)
        losses = [z.square().sum() * size, (z * torch.randn(6, 4)).sum()]
        torch.testing.assert_close(
            BALANCING.MinNormBalancer(normalize, preference)(losses, z),
            MinNormBalancer(normalize, preference)(losses, z),
        )


def test_batches_are_the_packages():
    speakers = [str(s) for s in range(9) for _ in range(1 + s % 5)]
    options = {"seed": 3, "processes": 2}
    ours, theirs = (
        which(speakers, 4, 2, **options)
        for which in (SpeakerBatchSampler, SAMPLER.SpeakerBatchSampler)
    )
    for epoch in range(3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)
