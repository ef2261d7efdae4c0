"""The margin-contrastive loss against independent oracles."""

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_scl.losses import SupConMarginLoss

TYPES = ("angular", "cosine")
DENOMINATORS = ("none", "positive", "all_positives")
MODES = ("negatives", "logits")
OPTIONS = list(itertools.product(TYPES, DENOMINATORS, MODES))


def double_loop(z, labels, weights, margin, temperature, *options):
    """The equations as they stand, one pair at a time."""
    margin_type, margin_in_denominator, attention_on = options
    z = z / z.norm(dim=1, keepdim=True)
    weights = z.new_ones(len(z)) if weights is None else weights

    def similarity(i, j, with_margin):
        cos = (z[i] @ z[j]).clamp(-1, 1)
        if with_margin and margin_type == "cosine":
            cos = cos - margin
        elif with_margin:
            theta = torch.acos(cos)
            if theta + margin <= math.pi:
                cos = torch.cos(theta + margin)
            else:
                cos = cos + math.cos(margin) - 1
        if attention_on == "logits":
            cos = cos * torch.minimum(weights[i], weights[j])
        return cos / temperature

    total, n_anchors = 0.0, 0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if not positives:
            continue
        n_anchors += 1
        for p in positives:
            with_margin = dict(zip(DENOMINATORS, ([], [p], positives)))
            with_margin = with_margin[margin_in_denominator]
            denominator = 0.0
            for a in others:
                term = torch.exp(similarity(i, a, a in with_margin))
                if attention_on == "negatives" and a not in positives:
                    term = torch.minimum(weights[i], weights[a]) * term
                denominator = denominator + term
            log_share = similarity(i, p, True) - torch.log(denominator)
            total = total - log_share / len(positives)
    return total / n_anchors


def random_batch(seed, n_speakers=4, n_samples=10, dim=5):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n_samples, dim, dtype=torch.float64, generator=generator)
    labels = torch.randint(n_speakers, (n_samples,), generator=generator)
    labels[1] = labels[0]  # at least one pair
    return z, 1000 - 700 * labels


def at_angle(theta, dtype=torch.float64):
    """Two samples of one speaker, theta apart."""
    z = [[1.0, 0.0, 0.0], [math.cos(theta), math.sin(theta), 0.0]]
    return torch.tensor(z, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("attention", ["no attention", "constant", "learnt"])
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_value_and_gradient_equal_the_double_loop(options, attention):
    torch.manual_seed(1)
    cases = [(0.0, None), (0.2, 2), (1.5, 1), (1.9, None)]
    for seed, (margin, chunk_size) in enumerate(cases):
        z, labels = random_batch(seed, 5, 9, 4)
        z.requires_grad_()
        weights = torch.rand(9, dtype=torch.float64)
        weights[3] = weights[0]  # equal ones share the gradient of the min
        weights.requires_grad_(attention == "learnt")
        if attention == "no attention":
            weights = None
        arguments = margin, 0.3, *options
        value = SupConMarginLoss(*arguments, chunk_size)(z, labels, weights)
        expected = double_loop(z, labels, weights, *arguments)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)

        wanted = [z, weights] if attention == "learnt" else [z]
        gradients = torch.autograd.grad(3 * value, wanted)
        expected = torch.autograd.grad(3 * expected, wanted)
        torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_without_a_margin_it_is_supcon(temperature):
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    losses = SupConMarginLoss(0.0, temperature), pml.SupConLoss(temperature)
    for n_speakers in (2, 8, 40):
        z, labels = random_batch(0, n_speakers, 64, 16)
        z.requires_grad_()
        values = [loss(z, labels) for loss in losses]
        found = [(x, *torch.autograd.grad(x, z)) for x in values]
        torch.testing.assert_close(*found, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(-20, 20))
@settings(max_examples=15)
def test_invariant_to_the_scale_of_each_embedding(seed, exponent):
    z, labels = random_batch(seed)
    z = z.float().requires_grad_()
    loss = SupConMarginLoss(0.2)
    scale = torch.full((len(z), 1), 10.0**exponent)
    scale[0] = 1.0
    scaled = (z * scale).detach().requires_grad_()
    value, wanted = loss(scaled, labels), loss(z, labels)
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
    (value + wanted).backward()
    # The longer the vector, the smaller its gradient.
    found = scaled.grad * scale
    torch.testing.assert_close(found, z.grad, rtol=1e-3, atol=1e-4)


angles = st.lists(st.floats(0.0, math.pi), min_size=2, max_size=2).map(sorted)


@given(angles, angles, st.sampled_from(DENOMINATORS))
@settings(max_examples=80)
def test_monotone_in_margin_and_angle_on_the_whole_circle(m, t, denominator):
    """So where theta + m exceeds pi too, and without a jump there."""

    def loss(margin, theta):
        z = torch.cat([at_angle(theta), torch.tensor([[0.0, 0, 1]]).double()])
        margin = min(margin, 3.14)
        made = SupConMarginLoss(margin, 0.2, "angular", denominator)
        return made(z, torch.tensor([0, 0, 1])).item()

    assert loss(m[0], t[0]) <= loss(m[1], t[0]) + 1e-12
    if denominator != "none":
        assert loss(m[0], t[0]) <= loss(m[0], t[1]) + 1e-12
    edge = math.pi - m[0]
    before, after = max(edge - 1e-7, 0), min(edge + 1e-7, math.pi)
    assert loss(m[0], before) == pytest.approx(loss(m[0], after), abs=1e-5)


@pytest.mark.parametrize(
    "dtype, theta, tolerance",
    [(torch.float64, t, 2e-3) for t in (1e-6, 1e-4, 1e-2, 1.0, 2.0, 2.9)]
    + [(torch.float32, t, 1e-2) for t in (1e-7, 1e-5, 1e-3)]
    + [(torch.float32, t, 1e-4) for t in (1e-2, 0.1, 3.0)],
)
def test_gradient_of_a_close_pair(dtype, theta, tolerance):
    """|dL/dz| = |sin(theta + m) - sin(theta)| / tau, in closed form."""
    z = at_angle(theta, dtype)
    SupConMarginLoss(0.1, 0.5)(z, torch.tensor([0, 0])).backward()
    expected = abs(math.sin(theta + 0.1) - math.sin(theta)) / 0.5
    found = z.grad.norm(dim=1)
    torch.testing.assert_close(
        found, torch.full_like(found, expected), rtol=tolerance, atol=1e-7
    )


LIMITS = {
    "random": lambda z: z,
    "identical": torch.ones_like,
    "opposite": lambda z: (-1.0) ** torch.arange(8)[:, None] + 0 * z,
    "zeros": lambda z: torch.where(torch.arange(8)[:, None] % 2 == 0, 0, z),
    "one speaker": lambda z: torch.cat([-z[1:2], z[1:]]),
    "huge": lambda z: 1e30 * z,
    "tiny": lambda z: 1e-30 * z,
}


@pytest.mark.parametrize("case", LIMITS)
def test_finite_at_every_limit(case):
    torch.manual_seed(4)
    z = LIMITS[case](torch.randn(8, 6))
    labels = torch.arange(8) // (8 if case == "one speaker" else 3)
    weights = torch.logspace(-30, 0, 8).requires_grad_()
    for temperature, options, a in itertools.product(
        (0.01, 100.0), OPTIONS, (None, weights)
    ):
        leaf = z.clone().requires_grad_()
        value = SupConMarginLoss(0.2, temperature, *options)(leaf, labels, a)
        value.backward()
        assert value.isfinite() and value >= -1e-5, options
        assert leaf.grad.isfinite().all(), options
        assert a is None or a.grad.isfinite().all(), options


@pytest.mark.parametrize("weights", [None, torch.rand(5)])
def test_no_positive_at_all_is_zero_with_a_gradient_path(weights):
    z = torch.randn(5, 4, requires_grad=True)
    value = SupConMarginLoss()(z, torch.arange(5), weights)
    assert value.shape == () and value.item() == 0.0
    value.backward()
    assert torch.equal(z.grad, torch.zeros_like(z))
    z.data[2, 1] = math.nan  # NaN stays NaN, where there is one
    assert SupConMarginLoss()(z, torch.arange(5) // 2, weights).isnan()


class TF32(TorchDispatchMode):
    """Products of matrices as an Ampere GPU rounds their factors."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("mm", "bmm", "addmm", "addmm_"):
            *first, left, right = args
            args = (*first, self.rounded(left), self.rounded(right))
        return function(*args, **(kwargs or {}))

    @staticmethod
    def rounded(x):
        bits = x.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("apart", [0.1, 0.01, 0.001])
def test_close_positives_keep_their_gradient_under_tf32(apart):
    torch.manual_seed(0)
    speakers = torch.nn.functional.normalize(torch.randn(32, 64))
    noise = apart / math.sqrt(64) * torch.randn(128, 64)
    z = speakers.repeat_interleave(4, 0) + noise
    labels = torch.arange(32).repeat_interleave(4)

    def gradient(leaf):
        # At this temperature the negatives have their share too.
        value = SupConMarginLoss(0.2, 0.3)(leaf.requires_grad_(), labels)
        return torch.autograd.grad(value, leaf)[0].double()

    exact = gradient(z.double())
    with TF32():
        ours = gradient(z)
    assert (ours - exact).norm() < 2e-3 * exact.norm()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zeros", [[2], [0, 1, 4], list(range(6))])
def test_a_weight_of_zero_is_the_limit_of_small_ones(zeros, mode):
    z, labels = random_batch(10, 3, 6)
    results = []
    for least in (0.0, 1e-30):
        leaf = z.clone().requires_grad_()
        weights = torch.linspace(0.2, 1.0, 6, dtype=z.dtype)
        weights[zeros] = least
        weights.requires_grad_()
        value = SupConMarginLoss(attention_on=mode)(leaf, labels, weights)
        value.backward()
        assert weights.grad.isfinite().all()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results)


def test_a_second_derivative_is_refused():
    z, labels = random_batch(12)
    z.requires_grad_()
    value = SupConMarginLoss()(z, labels)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(value, z, create_graph=True)


def test_a_compiler_gives_the_same():
    loss = SupConMarginLoss()
    compiled = torch.compile(SupConMarginLoss(), backend="aot_eager")
    z, labels = torch.randn(8, 4, requires_grad=True), torch.arange(8) % 3
    results = []
    for function in (loss, compiled):
        value = function(z, labels, torch.ones(8))
        results.append((value, torch.autograd.grad(value, z)[0]))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.half])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_and_autocast(dtype, autocast):
    z, labels = random_batch(5, 4, 24, 16)
    low = z.to(dtype).requires_grad_()
    exact = low.detach().double()
    loss = SupConMarginLoss(0.2, 0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(low, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert low.grad.dtype == dtype and low.grad.isfinite().all()
    # Computed in float32 whatever the autocast state; SpeechBrain's shapes too
    wanted = loss(exact[:, None], labels[:, None]).float()
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-4)


Z, SAME = torch.zeros(4, 3), torch.zeros(4).long()


@pytest.mark.parametrize(
    "given, options, message",
    [
        ((), {"temperature": 0.0}, "temperature=0.0"),
        ((), {"temperature": math.nan}, "temperature=nan"),
        ((), {"margin": -0.1}, "margin=-0.1"),
        ((), {"margin": 10}, "radians"),
        ((), {"margin": 2.0, "margin_type": "cosine"}, "margin=2.0"),
        ((), {"margin_type": "degrees"}, "margin_type='degrees'"),
        ((), {"margin_in_denominator": "all"}, "in_denominator='all'"),
        ((), {"attention_on": "positives"}, "attention_on='positives'"),
        ((), {"chunk_size": 0}, "chunk_size=0"),
        ((torch.zeros(4), SAME), {}, "embeddings must be"),
        ((torch.zeros(4, 2, 3), SAME), {}, r"\[4, 2, 3\]"),
        ((Z, torch.zeros(5).long()), {}, r"\[5\]"),
        ((Z, SAME.float()), {}, "integers"),
        ((Z, SAME, torch.ones(3)), {}, r"\[3\]"),
        ((Z, SAME, torch.ones(4, 1)), {}, "4, 1"),
        ((Z, [0, 0, 1, 1]), {}, "labels must be .* not list"),
        ((Z.numpy(), SAME), {}, "embeddings must be .* not ndarray"),
        ((Z, SAME, (1, 1, 1, 1)), {}, "weights must be .* not tuple"),
    ],
)
def test_what_does_not_fit_is_refused(given, options, message):
    with pytest.raises(ValueError, match=message):
        SupConMarginLoss(**options)(*given)
