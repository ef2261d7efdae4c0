"""Balancing against scipy's and TorchJD's minimum-norm solutions."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.optimize import minimize_scalar

from speechbrain_scl.balancing import Balancer, FixedBalancer, MinNormBalancer

NORMALIZE = ("none", "l2", "loss")

many = settings(max_examples=40)
seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-10, 10)


def two_gradients(seed, first=0.0, second=0.0, dim=6):
    """Random directions with lengths of about 10^first and 10^second."""
    rng = np.random.default_rng(seed)
    scales = np.array([[10.0**first], [10.0**second]])
    return torch.from_numpy(rng.standard_normal((2, dim)) * scales)


def combine(weights, gradients):
    return weights.double() @ gradients


@given(seeds, exponents, exponents)
@many
def test_no_other_weights_give_a_shorter_vector(seed, first, second):
    """By the KKT conditions, by scipy and by TorchJD."""
    gradients = two_gradients(seed, first, second)
    weights = MinNormBalancer().weights(list(gradients))
    assert (weights >= 0).all() and weights.sum().item() == pytest.approx(1.0)
    # g_k . d >= |d|^2, equal where k has weight
    d = combine(weights, gradients)
    slack = gradients @ d - d @ d
    rounding = 1e-6 * gradients.norm(dim=1) * gradients.norm(dim=1).min()
    assert (slack >= -rounding).all()
    assert (weights.double() * slack <= rounding).all()

    unit = gradients / gradients.norm(dim=1).min()

    def length(alpha):
        return (alpha * unit[0] + (1 - alpha) * unit[1]).norm().item()

    best = minimize_scalar(length, bounds=(0, 1), options={"xatol": 1e-12})
    best = min(best.fun, length(0.0), length(1.0))
    assert combine(weights, unit).norm().item() <= best * (1 + 1e-6)
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.MGDAWeighting(epsilon=1e-9)(gradients @ gradients.T)
    torch.testing.assert_close(weights.double(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_degenerate_gradients(normalize, scale):
    balancer = MinNormBalancer(normalize)

    def weights(first, second):
        return balancer.weights(
            [torch.tensor(first) * scale, torch.tensor(second) * scale],
            losses=[1.0, 1.0],
        ).tolist()

    zero, g, nan = [0.0, 0.0], [1.0, 2.0], [1.0, math.nan]
    equal = weights(g, g)
    assert min(equal) >= 0 and sum(equal) == pytest.approx(1.0)
    assert weights(g, [-1.0, -2.0]) == [0.5, 0.5]  # they cancel
    assert weights(zero, g) == [0.0, 1.0]
    assert weights(g, zero) == [1.0, 0.0]
    assert weights(zero, zero) == [0.5, 0.5]
    assert weights(g, nan) == [0.5, 0.5]
    assert weights(nan, zero) == [0.5, 0.5]
    assert weights(g, [math.inf, 1.0]) == [0.5, 0.5]


@given(seeds, exponents, exponents, st.floats(0.01, 100.0))
@many
def test_no_objective_rises_whatever_the_normalisation(seed, a, b, loss):
    """And neither a common scale nor the objectives' order matters."""
    first, second = gradients = two_gradients(seed, a, b)
    for normalize in NORMALIZE:
        balancer = MinNormBalancer(normalize)
        weights = balancer.weights(list(gradients), [loss, 1.0])
        d = combine(weights, gradients)
        assert weights.sum().item() == pytest.approx(1.0)
        rounding = 1e-6 * gradients.norm(dim=1) * gradients.norm(dim=1).min()
        assert (gradients @ d >= -rounding).all()
        scaled = balancer.weights(list(gradients * 1e7), [loss, 1.0])
        torch.testing.assert_close(scaled, weights)
        swapped = balancer.weights([second, first], [1.0, loss])
        torch.testing.assert_close(swapped.flip(0), weights)


@given(seeds, st.floats(0.1, 10.0))
@many
def test_loss_is_blind_to_the_units_of_an_objective(seed, unit):
    """A loss in other units gives the same direction of descent."""
    first, second = two_gradients(seed)
    found = []
    for u in (1.0, unit):
        gradients = [first, u * second]
        weights = MinNormBalancer("loss").weights(gradients, [2.0, u])
        found.append(combine(weights, torch.stack(gradients)))
    cos = torch.cosine_similarity(*found, dim=0)
    assert cos.item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("preference", [(1.0, 1.0), (5.0, 1.0), (1.0, 20.0)])
@pytest.mark.parametrize("angle", [0.3, 1.5, 2.0, 3.0])
def test_preferred_lengths_as_far_as_no_objective_rises(preference, angle):
    first = torch.tensor([3e4, 0.0])
    second = 2e-3 * torch.tensor([math.cos(angle), math.sin(angle)])
    weights = MinNormBalancer("l2", preference).weights([first, second])
    step = weights[0] * first + weights[1] * second
    assert step @ first >= -1e-5 * step.norm() * first.norm()
    assert step @ second >= -1e-5 * step.norm() * second.norm()
    found = (weights[0] * first.norm()) / (weights[1] * second.norm())
    bound = max(-math.cos(angle), 1e-9)
    wanted = min(max(preference[0] / preference[1], bound), 1 / bound)
    assert found.item() == pytest.approx(wanted, rel=1e-3)


def objectives(z):
    torch.manual_seed(7)
    target, classifier = torch.randn_like(z), torch.randn(4, 3)
    labels = torch.arange(len(z)) % 3
    return [
        torch.nn.functional.cross_entropy(z @ classifier, labels),
        (z - target).square().mean(),
    ]


@pytest.fixture
def network():
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    )
    return encoder, torch.randn(16, 6)


def gradient(value, inputs):
    found = torch.autograd.grad(value, inputs, retain_graph=True)
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("at", ["embedding", "parameters"])
def test_from_losses_as_from_gradients(network, normalize, at):
    """The graph stays for the one backward pass of the weighted sum."""
    encoder, x = network
    parameters, z = list(encoder.parameters()), encoder(x)
    losses = objectives(z)
    shared = parameters if at == "parameters" else z  # the former: exact MGDA
    balancer = MinNormBalancer(normalize)
    weights = balancer(losses, shared)
    gradients = [gradient(v, shared) for v in losses]
    expected = balancer.weights(gradients, [v.detach() for v in losses])
    torch.testing.assert_close(weights, expected)
    assert not weights.requires_grad
    found = gradient(torch.stack(losses).dot(weights), parameters)
    explicit = torch.stack([gradient(v, parameters) for v in losses])
    torch.testing.assert_close(found, weights @ explicit)


def test_a_constant_objective_has_no_say():
    z = torch.ones(3, requires_grad=True)
    balancer = MinNormBalancer()
    assert balancer([z.sum(), torch.zeros(())], z).tolist() == [1.0, 0.0]
    assert balancer([(z * 0).sum(), z.sum()], z).tolist() == [0.0, 1.0]


def test_the_products_are_returned_for_the_log():
    z = torch.tensor([3.0, 1.0], requires_grad=True)
    losses = [3 * z[0], z[0] + 2 * z[1]]
    for balancer in (MinNormBalancer(), Balancer(lambda gram: gram[0])):
        weights, gram = balancer.balance(losses, z)
        assert gram.tolist() == [[9.0, 3.0], [3.0, 5.0]]
        assert torch.equal(weights, balancer(losses, z))
    weights, gram = FixedBalancer([1.0, 3.0]).balance(losses, z)
    assert weights.tolist() == [0.25, 0.75] and gram is None


def test_another_weighting_of_torchjd_balances_three_objectives(network):
    aggregation = pytest.importorskip("torchjd.aggregation")
    z = network[0](network[1])
    losses = [*objectives(z), (z**4).mean()]
    weights = Balancer(aggregation.IMTLGWeighting())(losses, z)
    assert weights.shape == (3,) and weights.dtype == torch.float32
    gradients = torch.stack([gradient(v, z) for v in losses])
    # Impartial: the sum has the same projection on every gradient.
    projections = gradients @ (weights @ gradients) / gradients.norm(dim=1)
    torch.testing.assert_close(projections, projections[:1].expand(3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FixedBalancer([-1.0, 2.0]), "weights="),
        (lambda: FixedBalancer([0.0, 0.0]), "weights="),
        (lambda: FixedBalancer([math.inf, 1.0]), "weights="),
        (lambda: MinNormBalancer("l1"), "normalize='l1'"),
        (lambda: MinNormBalancer("l2", (1.0,)), "preference"),
        (lambda: MinNormBalancer("l2", (0.0, 1.0)), "preference"),
        (lambda: MinNormBalancer("l2", (1.0, math.inf)), "preference"),
    ],
)
def test_options_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "balancer",
    [MinNormBalancer("loss"), FixedBalancer(), Balancer(lambda gram: gram[0])],
)
def test_what_cannot_be_balanced_is_refused(balancer):
    z = torch.ones(3, requires_grad=True)
    loss = z.sum()
    calls = [([loss, z**2], z, r"0-dim, not of shapes \[\], \[3\]")]
    if isinstance(balancer, FixedBalancer):
        calls += [([loss] * 3, z, "3 losses, but 2 weights")]
    else:
        calls += [([loss] * 2, z.view(3, 1), "no loss was computed from it")]
        calls += [([loss] * 2, torch.ones(3), "it has no gradient")]
    if isinstance(balancer, MinNormBalancer):
        calls += [([loss] * 3, z, "3 objectives")]
        with pytest.raises(ValueError, match="needs the losses"):
            balancer.weights([torch.ones(2), torch.ones(2)])
    for losses, shared, message in calls:
        with pytest.raises(ValueError, match=message):
            balancer(losses, shared)
