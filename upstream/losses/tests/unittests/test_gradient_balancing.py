"""Tests of the weights that balance two losses.

Authors
 * YOUR NAME 2026
"""

import pytest
import torch


def weights_of(gradients, **options):
    """The balancer's weights of two losses with these gradients."""
    from speechbrain.nnet.loss.gradient_balancing import MinNormBalancer

    shared = torch.zeros_like(gradients[0], requires_grad=True)
    losses = [(gradient * shared).sum() for gradient in gradients]
    return MinNormBalancer(**options)(losses, shared)


def test_weights_are_those_of_the_shortest_vector(device):
    torch.manual_seed(0)
    steps = torch.linspace(0.0, 1.0, 10001, device=device)[:, None]
    for _ in range(20):
        gradients = torch.randn(2, 3, device=device)
        between = steps * gradients[0] + (1 - steps) * gradients[1]
        expected = steps[between.norm(dim=1).argmin()].item()
        weights = weights_of(gradients, normalize="none")
        assert weights[0].item() == pytest.approx(expected, abs=2e-4)
        assert weights.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_normalized_gradients_count_as_preferred(device, size):
    gradients = torch.tensor([[1.0, 0.0], [0.5, 2.0]], device=device)
    gradients[0] *= size
    for preference in ([1.0, 1.0], [5.0, 1.0]):
        weights = weights_of(gradients, normalize="l2", preference=preference)
        lengths = weights * gradients.norm(dim=1)
        ratio = (lengths[0] / lengths[1]).item()
        assert ratio == pytest.approx(preference[0] / preference[1], rel=1e-4)


@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_no_loss_rises(device, normalize):
    torch.manual_seed(0)
    for _ in range(50):
        gradients = torch.randn(2, 3, device=device)
        weights = weights_of(
            gradients, normalize=normalize, preference=[5.0, 1.0]
        )
        # Going down the weighted sum changes the losses by minus these.
        assert (gradients @ (weights @ gradients) > -1e-5).all()


def test_gradients_without_a_say(device):
    zero, one = torch.zeros(2, device=device), torch.ones(2, device=device)
    assert weights_of([one, zero]).tolist() == [1.0, 0.0]
    assert weights_of([zero, one]).tolist() == [0.0, 1.0]
    assert weights_of([zero, zero]).tolist() == [0.5, 0.5]
    assert weights_of([one, one], normalize="none").tolist() == [0.5, 0.5]
    assert weights_of([one, one * float("nan")]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "options", [{"preference": [1.0, 0.0]}, {"normalize": True}]
)
def test_options_outside_their_range_are_refused(options):
    from speechbrain.nnet.loss.gradient_balancing import MinNormBalancer

    with pytest.raises(ValueError, match=next(iter(options))):
        MinNormBalancer(**options)
