"""Balancing against scipy's and TorchJD's minimum-norm solutions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.optimize import minimize_scalar

from speechbrain_scl.balancing import Balancer, FixedBalancer, MinNormBalancer

NORMALIZE = ("none", "l2", "loss")

many = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-10, 10)


def two_gradients(seed, first=0.0, second=0.0, dim=6):
    """Random directions with lengths of about 10^first and 10^second."""
    rng = np.random.default_rng(seed)
    scales = np.array([[10.0**first], [10.0**second]])
    return torch.from_numpy(rng.standard_normal((2, dim)) * scales)


def combine(weights, gradients):
    return weights.double() @ gradients


def assert_kkt(weights, gradients):
    """d is the shortest vector: g_k . d >= |d|^2, equal where k has weight."""
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1.0)
    d = combine(weights, gradients)
    slack = gradients @ d - d @ d
    rounding = 1e-6 * gradients.norm(dim=1) * gradients.norm(dim=1).min()
    assert (slack >= -rounding).all()
    assert (weights.double() * slack <= rounding).all()


# ---- the shortest vector ---------------------------------------------------


@given(seeds, exponents, exponents)
@many
def test_no_other_weights_give_a_shorter_vector(seed, first, second):
    gradients = two_gradients(seed, first, second)
    weights = MinNormBalancer().weights(list(gradients))
    assert_kkt(weights, gradients)

    unit = gradients / gradients.norm(dim=1).min()

    def length(alpha):
        return (alpha * unit[0] + (1 - alpha) * unit[1]).norm().item()

    best = minimize_scalar(length, bounds=(0, 1), options={"xatol": 1e-12})
    best = min(best.fun, length(0.0), length(1.0))
    assert combine(weights, unit).norm().item() <= best * (1 + 1e-6)


@given(seeds, exponents, exponents)
@many
def test_equals_torchjd(seed, first, second):
    aggregation = pytest.importorskip("torchjd.aggregation")
    gradients = two_gradients(seed, first, second)
    weights = MinNormBalancer().weights(list(gradients))
    theirs = aggregation.MGDAWeighting(epsilon=1e-9)(gradients @ gradients.T)
    torch.testing.assert_close(weights.double(), theirs, rtol=0, atol=1e-6)


@given(seeds, exponents)
@many
def test_a_common_scale_changes_nothing(seed, exponent):
    gradients = two_gradients(seed)
    for normalize in NORMALIZE:
        balancer = MinNormBalancer(normalize)
        expected = balancer.weights(list(gradients), losses=[1.0, 3.0])
        scaled = balancer.weights(
            list(gradients * 10.0**exponent), losses=[1.0, 3.0]
        )
        torch.testing.assert_close(scaled, expected)


@given(seeds)
@many
def test_swapped_gradients_swap_the_weights(seed):
    first, second = two_gradients(seed, 0, 1)
    for normalize in NORMALIZE:
        balancer = MinNormBalancer(normalize)
        weights = balancer.weights([first, second], losses=[1.0, 3.0])
        swapped = balancer.weights([second, first], losses=[3.0, 1.0])
        torch.testing.assert_close(swapped.flip(0), weights)


def test_the_ends_are_exact():
    """Where one gradient is the shortest vector itself: 1 and 0."""
    g = torch.tensor([1.0, 2.0])
    assert MinNormBalancer().weights([g, 3 * g]).tolist() == [1.0, 0.0]
    assert MinNormBalancer().weights([3 * g, g]).tolist() == [0.0, 1.0]


@given(seeds, st.floats(0.01, 100.0))
@many
def test_opposed_gradients_cancel(seed, factor):
    g = two_gradients(seed)[0]
    gradients = torch.stack([g, -factor * g])
    for normalize in NORMALIZE:
        weights = MinNormBalancer(normalize).weights(
            list(gradients), losses=[2.0, 1.0]
        )
        rest = combine(weights, gradients).norm()
        assert rest <= 1e-6 * gradients.norm(dim=1).min()


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
    assert weights(zero, g) == [0.0, 1.0]
    assert weights(g, zero) == [1.0, 0.0]
    assert weights(zero, zero) == [0.5, 0.5]
    assert weights(g, nan) == [0.5, 0.5]
    assert weights(nan, zero) == [0.5, 0.5]
    assert weights(g, [math.inf, 1.0]) == [0.5, 0.5]


# ---- normalisation ---------------------------------------------------------


@given(seeds, exponents, exponents, st.floats(0.01, 100.0))
@many
def test_no_objective_rises_whatever_the_normalisation(seed, a, b, loss):
    gradients = two_gradients(seed, a, b)
    for normalize in NORMALIZE:
        weights = MinNormBalancer(normalize).weights(
            list(gradients), losses=[loss, 1.0]
        )
        d = combine(weights, gradients)
        assert weights.sum().item() == pytest.approx(1.0)
        rounding = 1e-6 * gradients.norm(dim=1) * gradients.norm(dim=1).min()
        assert (gradients @ d >= -rounding).all()


@given(seeds, st.floats(-5, 5))
@many
def test_l2_descends_along_the_bisector(seed, exponent):
    """Equal angles to both gradients, however long they are."""
    gradients = two_gradients(seed, 0, exponent)
    weights = MinNormBalancer("l2").weights(list(gradients))
    weighted = weights.double()[:, None] * gradients
    first, second = weighted.norm(dim=1)
    assert first.item() == pytest.approx(second.item(), rel=1e-5)


@given(seeds, st.floats(0.1, 10.0))
@many
def test_loss_is_blind_to_the_units_of_an_objective(seed, unit):
    """A loss in other units gives the same direction of descent."""
    first, second = two_gradients(seed)
    balancer = MinNormBalancer("loss")
    one = combine(
        balancer.weights([first, second], [2.0, 1.0]),
        torch.stack([first, second]),
    )
    other = combine(
        balancer.weights([first, unit * second], [2.0, unit]),
        torch.stack([first, unit * second]),
    )
    cos = torch.cosine_similarity(one, other, dim=0)
    assert cos.item() == pytest.approx(1.0, abs=1e-5)


# ---- from losses: at the embedding and at the parameters -------------------


def network(seed=0):
    torch.manual_seed(seed)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    )
    return encoder, torch.randn(16, 6)


def objectives(z):
    torch.manual_seed(7)
    target, classifier = torch.randn_like(z), torch.randn(4, 3)
    labels = torch.arange(len(z)) % 3
    return [
        torch.nn.functional.cross_entropy(z @ classifier, labels),
        (z - target).square().mean(),
    ]


def explicit_gradients(encoder, x):
    """By the usual backward pass, one objective after the other."""
    gradients = []
    for k in range(2):
        encoder.zero_grad()
        objectives(encoder(x))[k].backward()
        parts = [p.grad.flatten() for p in encoder.parameters()]
        gradients.append(torch.cat(parts).double())
    encoder.zero_grad()
    return torch.stack(gradients)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_at_the_parameters_it_is_exact_mgda(normalize):
    encoder, x = network()
    losses = objectives(encoder(x))
    balancer = MinNormBalancer(normalize)
    weights = balancer(losses, shared=list(encoder.parameters()))
    gradients = explicit_gradients(encoder, x)
    expected = balancer.weights(list(gradients), [v.detach() for v in losses])
    torch.testing.assert_close(weights, expected)
    if normalize == "none":
        assert_kkt(weights, gradients)


def test_the_embedding_level_is_exact_where_the_encoder_is_an_isometry():
    """Z = XW with orthonormal rows of X: both levels have the same angles."""
    x = torch.linalg.qr(torch.randn(20, 16))[0].T  # [16, 20]
    w = torch.randn(20, 4, requires_grad=True)
    z = x @ w
    balancer = MinNormBalancer()
    at_embedding = balancer(objectives(z), shared=z)
    at_parameters = balancer(objectives(z), shared=[w])
    torch.testing.assert_close(at_embedding, at_parameters)
    assert 0.05 < at_embedding[0] < 0.95  # not an end, where all agree


def test_the_graph_stays_for_the_one_backward():
    encoder, x = network()
    z = encoder(x)
    losses = objectives(z)
    weights = MinNormBalancer()(losses, shared=z)
    assert not weights.requires_grad
    (weights[0] * losses[0] + weights[1] * losses[1]).backward()
    gradients = explicit_gradients(encoder, x)
    encoder_gradient = combine(weights, gradients)
    encoder, x = network()
    z = encoder(x)
    losses = objectives(z)
    torch.stack(losses).dot(weights).backward()
    ours = torch.cat([p.grad.flatten() for p in encoder.parameters()])
    torch.testing.assert_close(ours.double(), encoder_gradient)


def test_a_constant_objective_has_no_say():
    z = torch.ones(3, requires_grad=True)
    balancer = MinNormBalancer()
    assert balancer([z.sum(), torch.zeros(())], z).tolist() == [1.0, 0.0]
    assert balancer([(z * 0).sum(), z.sum()], z).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "balancer", [MinNormBalancer(), Balancer(lambda gram: gram[0])]
)
def test_the_products_are_returned_for_the_log(balancer):
    z = torch.tensor([3.0, 1.0], requires_grad=True)
    losses = [3 * z[0], z[0] + 2 * z[1]]
    weights, gram = balancer.balance(losses, z)
    assert gram.tolist() == [[9.0, 3.0], [3.0, 5.0]]
    assert torch.equal(weights, balancer(losses, z))
    assert FixedBalancer().balance(losses, z).gram is None


def test_what_the_losses_do_not_share_is_refused():
    z = torch.ones(3, requires_grad=True)
    losses = [z.sum(), (z**2).sum()]
    for balancer in (MinNormBalancer(), Balancer(lambda g: g[0])):
        with pytest.raises(ValueError, match="no loss was computed from it"):
            balancer(losses, z.view(3, 1))
        with pytest.raises(ValueError, match="it has no gradient"):
            balancer(losses, torch.ones(3))


def test_the_embedding_level_may_raise_one_at_the_parameters():
    """An encoder z = J p that stretches one direction tenfold."""
    p = torch.zeros(2, requires_grad=True)
    z = torch.tensor([10.0, 0.1]) * p
    gradients = torch.tensor([[1.0, 1.0], [-0.5, 2.0]])
    weights = MinNormBalancer()([g @ z for g in gradients], z)
    step = weights @ gradients
    assert (gradients @ step > 0).all()
    at_parameters = gradients * torch.tensor([10.0, 0.1])
    rises = at_parameters @ (weights @ at_parameters) < 0
    assert rises.tolist() == [False, True]
    exact = MinNormBalancer()([g @ z for g in gradients], [p])
    assert (at_parameters @ (exact @ at_parameters) > 0).all()


# ---- TorchJD in place of a balancer ----------------------------------------


def test_another_weighting_of_torchjd_balances_three_objectives():
    aggregation = pytest.importorskip("torchjd.aggregation")
    encoder, x = network()
    z = encoder(x)
    losses = [*objectives(z), (z**4).mean()]
    balancer = Balancer(aggregation.IMTLGWeighting())
    weights = balancer(losses, z)
    assert weights.shape == (3,) and weights.dtype == torch.float32
    gradients = torch.stack(
        [
            torch.autograd.grad(v, z, retain_graph=True)[0].flatten()
            for v in losses
        ]
    )
    # Impartial: the sum has the same projection on every gradient.
    projections = gradients @ (weights @ gradients) / gradients.norm(dim=1)
    torch.testing.assert_close(projections, projections[:1].expand(3))


# ---- the baseline, and refusals --------------------------------------------


def test_fixed_weights_are_divided_by_their_sum():
    z = torch.ones(1, requires_grad=True)
    losses = [z.sum(), z.sum(), z.sum()]
    weights = FixedBalancer([1.0, 1.0, 2.0])(losses, z)
    assert weights.tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize(
    "weights", [[-1.0, 2.0], [0.0, 0.0], [], [math.nan, 1.0], [math.inf, 1.0]]
)
def test_senseless_fixed_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights="):
        FixedBalancer(weights)


def test_a_count_of_losses_that_does_not_fit_is_refused():
    z = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="3 losses, but 2 weights"):
        FixedBalancer()([z.sum()] * 3)
    with pytest.raises(ValueError, match="3 objectives"):
        MinNormBalancer()([z.sum()] * 3, z)
    with pytest.raises(ValueError, match="3 objectives"):
        MinNormBalancer().weights([z] * 3)


@pytest.mark.parametrize(
    "balancer",
    [
        MinNormBalancer(),
        MinNormBalancer("loss"),
        FixedBalancer(),
        Balancer(lambda gram: gram.diagonal()),
    ],
)
def test_losses_that_are_no_numbers_are_refused(balancer):
    z = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"0-dim, not of shapes \[\], \[3\]"):
        balancer([z.sum(), z**2], z)


def test_loss_normalisation_without_the_losses_is_refused():
    with pytest.raises(ValueError, match="needs the losses"):
        MinNormBalancer("loss").weights([torch.ones(2), torch.ones(2)])


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalize='l1'"):
        MinNormBalancer("l1")


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


@pytest.mark.parametrize("preference", [(1.0,), (0.0, 1.0), (1.0, math.inf)])
def test_preferences_that_mean_nothing_are_refused(preference):
    with pytest.raises(ValueError, match="preference"):
        MinNormBalancer("l2", preference)
