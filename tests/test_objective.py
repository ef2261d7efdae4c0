"""The objective in a plain loop: against its parts by hand, and without them."""

import pytest
import torch
import yaml
from commands import ROOT
from hyperpyyaml import load_hyperpyyaml
from small_brain import aam, objective
from torch.utils.flop_counter import FlopCounterMode

from speechbrain.lobes.models import Xvector
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import nll_loss
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import FixedBalancer, MinNormBalancer
from speechbrain_scl.errors import UserError
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective
from speechbrain_scl.training.classifiers import SampledClassifier


@pytest.fixture
def batch():
    """Embeddings [N, 1, D], labels, and a classifier."""
    torch.manual_seed(0)
    embeddings = torch.randn(8, 1, 6, requires_grad=True)
    return embeddings, torch.arange(8) % 3, Classifier(6, out_neurons=3)


@pytest.mark.parametrize("at", ["embedding", "parameters"])
@pytest.mark.parametrize("attention", [None, ClassAwareAttention(10.0)])
@pytest.mark.parametrize(
    "balancer", [FixedBalancer([1, 3]), MinNormBalancer("l2", [5, 1])]
)
def test_it_is_its_parts_by_hand(batch, attention, balancer, at):
    features, labels, classifier = batch
    encoder = torch.nn.Linear(6, 6)
    embeddings, parameters = encoder(features), None
    if at == "parameters":
        parameters = list(encoder.parameters())
    whole = objective(attention=attention, balancer=balancer)
    loss = whole(embeddings, labels, classifier, parameters)

    losses = [aam()(classifier(embeddings), labels[:, None])]
    weights = None
    if attention is not None:
        weights = attention(embeddings, labels, classifier.weight)
    losses.append(SupConMarginLoss()(embeddings, labels, weights))
    balance = balancer(losses, parameters or embeddings)
    wanted = balance[0] * losses[0] + balance[1] * losses[1]
    torch.testing.assert_close(loss, wanted)
    inputs = embeddings, classifier.weight
    gradients = [torch.autograd.grad(x, inputs) for x in (loss, wanted)]
    torch.testing.assert_close(*gradients)
    assert whole.log["contrastive"] == losses[1]
    assert whole.log["weight_contrastive"] == balance[1]
    assert whole.log["positive_pairs"] == 3 + 3 + 1
    assert ("attention" in whole.log) == (attention is not None)
    assert not any(value.requires_grad for value in whole.log.values())


def test_without_contrast_it_is_the_classification_to_the_bit(batch):
    embeddings, labels, classifier = batch
    plain = objective(contrastive=None, balancer=None)
    loss = plain(embeddings, labels[:, None], classifier)
    wanted = aam()(classifier(embeddings), labels[:, None])
    assert torch.equal(loss, wanted)
    gradients = [torch.autograd.grad(x, embeddings)[0] for x in (loss, wanted)]
    assert torch.equal(*gradients) and plain.log == {}
    # A plain classifier and loss of PyTorch serve, too; all is in float32.
    classifier, entropy = torch.nn.Linear(6, 3), torch.nn.CrossEntropyLoss()
    low = embeddings[:, 0].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = Objective(entropy)(low, labels, classifier)
    assert torch.equal(loss, entropy(classifier(low.float()), labels))


class OfEmbeddings(torch.nn.Module):
    """An attention that takes no cosines."""

    def forward(self, embeddings, labels, class_weights):
        self.seen = labels, class_weights.shape
        return ClassAwareAttention()(embeddings, labels, class_weights)


def test_classifier_and_attention_share_one_product(batch):
    losses, flops = [], []
    for attention in (ClassAwareAttention(), OfEmbeddings()):
        whole = objective(attention=attention, balancer=FixedBalancer())
        with FlopCounterMode(display=False) as counted:
            losses.append(whole(*batch))
        flops.append(counted.get_total_flops())
    assert torch.equal(*losses)
    assert flops[1] - flops[0] == 2 * 8 * 6 * 3


@pytest.mark.parametrize("attention", [ClassAwareAttention(), OfEmbeddings()])
def test_a_sample_of_the_classes(batch, attention):
    """All of them are all; sampled ones have other numbers than vectors."""
    embeddings, labels, _ = batch
    whole = objective(attention=attention)
    full, sampled = Classifier(6, out_neurons=64), SampledClassifier(6, 64, 1)
    sampled.load_state_dict(full.state_dict())
    losses = [
        whole(embeddings, labels + 60, classifier)
        for classifier in (full, sampled)
    ]
    assert torch.equal(*losses)
    few = SampledClassifier(6, 64, rate=0.2)
    loss = whole(embeddings, labels + 60, few)
    loss.backward()
    assert loss.isfinite() and few.weight.grad.isfinite().all()
    if isinstance(attention, OfEmbeddings):
        assert attention.seen[0].min() == 60 and attention.seen[1] == (64, 6)


def test_what_cannot_be_is_told(batch):
    embeddings, labels, classifier = batch
    with pytest.raises(UserError, match="contrastive needs a balancer"):
        Objective(aam(), SupConMarginLoss())
    with pytest.raises(UserError, match="needs a classification"):
        Objective(None)
    with pytest.raises(UserError, match="unfreeze the encoder, or.*null"):
        objective()(embeddings.detach(), labels, classifier)
    Objective(aam())(embeddings.detach(), labels, classifier).backward()
    # SpeechBrain's x-vectors' has no class vectors; without attention it serves.
    classifier = Xvector.Classifier((None, None, 6), out_neurons=3)
    batch = embeddings, labels, classifier
    with pytest.raises(UserError, match="Classifier has no `weight`.*null"):
        objective(classification=nll_loss)(*batch)
    assert objective(classification=nll_loss, attention=None)(*batch).isfinite()


def variants():
    """Name -> overrides of hparams/balance.yaml."""
    text = (ROOT / "hparams" / "balance.yaml").read_text()
    return {
        name.value: text[value.start_mark.index : value.end_mark.index]
        for name, value in yaml.compose(text).value
    }


@pytest.mark.parametrize("name", variants())
def test_ways_to_balance_take_a_step(batch, name):
    pytest.importorskip("torchjd")
    # TorchJD's extras that solve them
    for needed in {"cagrad": ["cvxpy"], "upgrad": ["quadprog"]}.get(name, []):
        pytest.importorskip(needed)
    text = (ROOT / "hparams" / "ecapa_small.yaml").read_text()
    text = text[text.index("\naam_margin:") : text.index("\nlabel_cleaner:")]
    whole = load_hyperpyyaml(text, variants()[name])["objective"]
    loss = whole(*batch)
    loss.backward()
    assert loss.isfinite() and batch[0].grad.abs().sum() > 0
    if name == "aam":
        return
    log = whole.log
    share = {"sixth": 1 / 6, "third": 1 / 3, "half": 1 / 2}
    if name in share:
        assert log["weight_contrastive"].item() == pytest.approx(share[name])
    if name == "imtl_g":  # both weighted gradients are as long
        one, other = (
            (log[f"weight_{n}"] * log[f"grad_norm_{n}"]).item()
            for n in ("classification", "contrastive")
        )
        assert one == pytest.approx(other, rel=1e-4)
