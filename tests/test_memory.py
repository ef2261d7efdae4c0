"""The cross-batch memory against the equations, one pair at a time."""

import itertools
import math

import pytest
import torch

from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.memory import CrossBatchMemory

OPTIONS = list(
    itertools.product(
        ("angular", "cosine"),
        ("none", "positive", "all_positives"),
        ("negatives", "logits"),
        (False, True),
    )
)
MARGIN, TEMPERATURE = 0.2, 0.3


def brute_force(batch, past, options):
    """The loss of a batch whose samples also meet those of the past."""
    margin_type, denominator, attention_on, past_positives = options
    n = len(batch[1])
    z, labels, weights = (
        torch.cat([now, before.detach()])
        for now, before in zip(batch, past, strict=True)
    )
    z = z / z.norm(dim=1, keepdim=True)

    def logit(i, j, with_margin):
        cos = z[i] @ z[j]
        if with_margin and margin_type == "cosine":
            cos = cos - MARGIN
        elif with_margin:
            theta = torch.acos(cos)
            if theta + MARGIN <= math.pi:
                cos = torch.cos(theta + MARGIN)
            else:
                cos = cos + math.cos(MARGIN) - 1
        if attention_on == "logits":
            cos = cos * torch.minimum(weights[i], weights[j])
        return cos / TEMPERATURE

    losses = []
    for i in range(n):
        others = [j for j in range(len(z)) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        positives = [j for j in same if j < n or past_positives]
        negatives = [j for j in others if j not in same]
        if not positives:
            continue
        terms = []
        for p in positives:
            denominators = [
                torch.exp(logit(i, a, False))
                * (
                    torch.minimum(weights[i], weights[a])
                    if attention_on == "negatives"
                    else 1.0
                )
                for a in negatives
            ]
            for q in positives:
                with_margin = denominator == "all_positives" or (
                    denominator == "positive" and q == p
                )
                denominators.append(torch.exp(logit(i, q, with_margin)))
            terms.append(sum(denominators).log() - logit(i, p, True))
        losses.append(sum(terms) / len(terms))
    return sum(losses) / len(losses)


def batches(n_batches=4, n=6):
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_batches):
        z = torch.randn(n, 4, dtype=torch.float64, generator=generator)
        labels = torch.randint(4, (n,), generator=generator)
        labels[1] = labels[0]
        weights = torch.rand(n, dtype=torch.float64, generator=generator)
        yield z.requires_grad_(), labels, weights.requires_grad_()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [4, 10])
def test_value_and_gradient_equal_the_double_loop(options, size):
    loss = SupConMarginLoss(
        MARGIN,
        TEMPERATURE,
        *options[:3],
        chunk_size=4,
        memory=size,
        memory_positives=options[3],
    )
    past = [torch.zeros(0, 4).double(), torch.zeros(0).long(), torch.zeros(0)]
    for batch in batches():
        z, labels, weights = batch
        value = loss(z, labels, weights)
        expected = brute_force(batch, past, options)
        torch.testing.assert_close(value, expected)
        ours = torch.autograd.grad(value, [z, weights])
        theirs = torch.autograd.grad(expected, [z, weights])
        torch.testing.assert_close(ours, theirs)
        past = [
            torch.cat([before, now])[-size:]
            for before, now in zip(past, batch, strict=True)
        ]


@pytest.mark.parametrize("positives", [False, True])
def test_an_anchor_whose_only_positive_is_past(positives):
    loss = SupConMarginLoss(memory=2, memory_positives=positives)
    loss(torch.eye(3)[:2], torch.tensor([0, 1]))
    z = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    value = loss(z, torch.tensor([0]))
    value.backward()
    assert (value.item() > 0) == (z.grad.norm().item() > 0) == positives


def test_a_resumed_run_is_the_same():
    def run(loss, data):
        return [loss(*batch).item() for batch in data]

    data = list(batches())
    whole = run(SupConMarginLoss(memory=9), data)
    first, second = SupConMarginLoss(memory=9), SupConMarginLoss(memory=9)
    run(first, data[:2])
    second.load_state_dict(first.state_dict())
    assert run(second, data[2:]) == whole[2:]
    assert len(set(whole)) == len(whole)


def test_evaluation_takes_nothing_in():
    loss = SupConMarginLoss(memory=4).eval()
    loss(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
    assert not loss.memory.valid.any()


def test_what_is_not_finite_is_not_remembered():
    memory = CrossBatchMemory(4)
    z = torch.eye(3)
    z[1, 1] = math.nan
    memory.remember(z, torch.arange(3))
    assert memory.valid.tolist() == [True, False, True, False]
    assert memory.embeddings.isfinite().all()


def test_a_batch_larger_than_the_memory_leaves_its_end():
    memory = CrossBatchMemory(2)
    memory.remember(torch.eye(5), torch.arange(5))
    assert sorted(memory.labels.tolist()) == [3, 4]


def test_a_memory_of_nothing_is_refused():
    with pytest.raises(ValueError, match="memory=-1"):
        SupConMarginLoss(memory=-1)
