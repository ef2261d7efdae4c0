"""Tests of the supervised contrastive loss with an angular margin.

Authors
 * YOUR NAME 2026
"""

import math

import pytest
import torch


def loss_by_loops(
    embeddings, labels, margin, temperature, attention, attention_on
):
    """The loss as its equation says, pair by pair."""
    z = embeddings / embeddings.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if not positives:
            continue
        of_pair = torch.minimum(attention[i], attention)
        on_logits = attention_on == "logits"
        length = of_pair if on_logits else torch.ones_like(of_pair)
        denominator = 0.0
        for j in others:
            pair = (length[j] * (z[i] @ z[j]) / temperature).exp()
            if j not in positives and not on_logits:
                pair = of_pair[j] * pair
            denominator = denominator + pair
        terms = []
        for p in positives:
            theta = torch.acos(z[i] @ z[p])
            margined = torch.cos(theta + margin)
            if theta + margin > math.pi:
                margined = torch.cos(theta) + math.cos(margin) - 1
            margined = length[p] * margined / temperature
            terms.append(margined - denominator.log())
        losses.append(-sum(terms) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("attention_on", ["negatives", "logits"])
@pytest.mark.parametrize("margin", [0.0, 0.2, 2.0])
def test_loss_and_gradient_are_those_of_the_equation(
    device, margin, attention_on
):
    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3], device=device)
    attention = torch.rand(7, device=device)
    inputs = [
        torch.randn(7, 3, device=device, requires_grad=True) for _ in range(2)
    ]
    inputs[1].data.copy_(inputs[0].data)
    expected = loss_by_loops(
        inputs[0], labels, margin, 0.3, attention, attention_on
    )
    loss = SupConMarginLoss(margin, 0.3, attention_on=attention_on)
    # As a recipe has them: [batch, 1, dim] and [batch, 1]
    found = loss(inputs[1][:, None], labels[:, None], attention)
    expected.backward()
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-5
    )


def test_loss_of_equal_or_lonely_samples(device):
    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    loss = SupConMarginLoss(margin=0.2, temperature=0.1)
    embeddings = torch.ones(4, 8, device=device, requires_grad=True)
    loss(embeddings, torch.tensor([0, 0, 1, 1], device=device)).backward()
    assert embeddings.grad.isfinite().all()
    value = loss(embeddings, torch.arange(4, device=device))
    assert value == 0
    value.backward()
    assert embeddings.grad.isfinite().all()


def test_margin_is_monotone_over_the_whole_circle(device):
    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    theta = torch.linspace(0.0, math.pi, 200)
    labels = torch.tensor([0, 0], device=device)
    values = []
    for angle in theta:
        pair = torch.tensor(
            [[1.0, 0.0], [torch.cos(angle), torch.sin(angle)]], device=device
        )
        plain = SupConMarginLoss(margin=0.0, temperature=1.0)(pair, labels)
        margined = SupConMarginLoss(margin=0.5, temperature=1.0)(pair, labels)
        # With one pair the loss is cos(theta) - cos(theta + margin).
        assert margined > plain - 1e-3
        values.append(torch.cos(angle) - margined.cpu())
    values = torch.stack(values)
    assert (values[1:] - values[:-1] < 1e-3).all()
    assert values[-1] < -1.0


def test_attention_is_small_where_another_class_is_nearer(device):
    from speechbrain.nnet.loss.class_aware_attention import ClassAwareAttention
    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    classes = torch.eye(3, device=device)
    embeddings = torch.tensor(
        [[1.0, 0.1, 0.0], [0.9, 0.0, 0.1], [0.8, 0.7, 0.0], [0.0, 0.1, 1.0]],
        device=device,
    ).requires_grad_()
    labels = torch.tensor([0, 0, 1, 2], device=device)  # the third is hard
    attention = ClassAwareAttention(scale=10.0)(embeddings, labels, classes)
    assert not attention.requires_grad
    expected = torch.tensor([1.0, 1.0, math.exp(-1.0 / math.sqrt(1.13)), 1.0])
    torch.testing.assert_close(attention.cpu(), expected)

    loss = SupConMarginLoss(temperature=0.2)
    pushes = [
        torch.autograd.grad(loss(embeddings, labels, weights), embeddings)[0]
        for weights in (None, attention)
    ]
    # A hard negative contributes less than it would without.
    assert pushes[1][2].norm() < pushes[0][2].norm()


@pytest.mark.parametrize(
    "options",
    [
        {"margin": -0.1},
        {"margin": 10},
        {"temperature": 0},
        {"attention_on": "positives"},
    ],
)
def test_options_outside_their_range_are_refused(options):
    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    with pytest.raises(ValueError, match=next(iter(options))):
        SupConMarginLoss(**options)


def joined_batch():
    """Embeddings, labels and attention of all processes together."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(8, 5, generator=generator),
        torch.tensor([0, 1, 2, 2, 0, 1, 3, 3]),
        torch.rand(8, generator=generator),
    )


def gradient_in_a_process(rank, world_size, tmpdir):
    """The local rows' gradient is that of the joined batch."""
    import os

    from speechbrain.nnet.loss.supcon_margin_loss import SupConMarginLoss

    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    torch.distributed.init_process_group(
        "gloo",
        rank=rank,
        world_size=world_size,
        init_method=f"file://{tmpdir}/sync",
    )
    embeddings, labels, attention = joined_batch()
    embeddings.requires_grad_()
    SupConMarginLoss()(embeddings, labels, attention).backward()
    rows = slice(4 * rank, 4 * rank + 4)
    local = embeddings[rows].detach().requires_grad_()
    loss = SupConMarginLoss(gather=True)
    loss(local, labels[rows], attention[rows]).backward()
    # DDP divides by the number of processes.
    torch.testing.assert_close(local.grad / world_size, embeddings.grad[rows])
    # Gloo's threads must not outlive the process.
    torch.distributed.destroy_process_group()


def test_gathered_gradient_is_that_of_the_joined_batch(tmpdir):
    torch.multiprocessing.spawn(
        gradient_in_a_process, (2, tmpdir), 2, join=True
    )
