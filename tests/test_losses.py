"""The margin-contrastive loss against independent oracles."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.losses import SupConMarginLoss

TYPES = ("angular", "cosine")
DENOMINATORS = ("none", "positive", "all_positives")
MODES = ("negatives", "logits")
OPTIONS = list(itertools.product(TYPES, DENOMINATORS, MODES))
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 4, 4])

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
margins = st.floats(0.0, 3.14)


def double_loop(
    embeddings,
    labels,
    weights=None,
    margin=0.2,
    temperature=0.07,
    margin_type="angular",
    margin_in_denominator="none",
    attention_on="negatives",
):
    """The equations as they stand, one pair at a time."""
    z = embeddings / embeddings.norm(dim=1, keepdim=True)
    if weights is None:
        weights = torch.ones(len(z), dtype=z.dtype)

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
            denominator = 0.0
            for a in others:
                with_margin = a in positives and (
                    margin_in_denominator == "all_positives"
                    or (margin_in_denominator == "positive" and a == p)
                )
                factor = 1.0
                if attention_on == "negatives" and a not in positives:
                    factor = torch.minimum(weights[i], weights[a])
                denominator = denominator + factor * torch.exp(
                    similarity(i, a, with_margin)
                )
            log_share = similarity(i, p, True) - torch.log(denominator)
            total = total - log_share / len(positives)
    return total / n_anchors


def random_batch(seed, n_speakers=4, n_samples=10, dim=5):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n_samples, dim, dtype=torch.float64, generator=generator)
    labels = torch.randint(n_speakers, (n_samples,), generator=generator)
    labels[1] = labels[0]  # at least one pair
    return z, labels


def at_angle(theta, dtype=torch.float64):
    """Two samples of one speaker, theta apart."""
    z = [[1.0, 0.0, 0.0], [math.cos(theta), math.sin(theta), 0.0]]
    return torch.tensor(z, dtype=torch.float64).to(dtype).requires_grad_()


# ---- the double loop -------------------------------------------------------


@pytest.mark.parametrize("attention", ["no attention", "constant", "learnt"])
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_value_and_gradient_equal_the_double_loop(options, attention):
    margin_type, denominator, mode = options
    torch.manual_seed(1)
    for margin, chunk_size in [(0.0, None), (0.2, 2), (1.5, 1), (1.9, None)]:
        z = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
        weights = torch.rand(9, dtype=torch.float64)
        weights[3] = weights[0]  # equal ones share the gradient of the min
        weights.requires_grad_(attention == "learnt")
        if attention == "no attention":
            weights = None
        arguments = margin, 0.3, margin_type, denominator, mode
        loss = SupConMarginLoss(*arguments, chunk_size)
        value = loss(z, LABELS, weights)
        expected = double_loop(z, LABELS, weights, *arguments)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)

        wanted = [z, weights] if attention == "learnt" else [z]
        gradients = torch.autograd.grad(value, wanted)
        expected = torch.autograd.grad(expected, wanted)
        for ours, theirs in zip(gradients, expected, strict=False):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_gradcheck(options):
    margin_type, denominator, mode = options
    loss = SupConMarginLoss(0.2, 0.3, margin_type, denominator, mode)
    torch.manual_seed(2)
    z = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    assert torch.autograd.gradcheck(
        lambda z, weights: loss(z, labels, weights), (z, weights)
    )


# ---- other people's and closed forms ---------------------------------------


@pytest.mark.parametrize("n_speakers", [2, 8, 40])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_without_a_margin_it_is_supcon(n_speakers, temperature):
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    z, labels = random_batch(0, n_speakers, 64, 16)
    z.requires_grad_()
    ours = SupConMarginLoss(0.0, temperature)(z, labels)
    theirs = pml.SupConLoss(temperature=temperature)(z, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(ours, z)[0]
    theirs = torch.autograd.grad(theirs, z)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [2, 6, 16])
@pytest.mark.parametrize("which", ["identical", "orthogonal"])
def test_closed_form_where_all_pairs_are_alike(n, which):
    z = torch.ones(n, 8) if which == "identical" else torch.eye(n)
    labels = torch.arange(n) // 2
    value = SupConMarginLoss(0.0)(z, labels).item()
    assert value == pytest.approx(math.log(n - 1), abs=1e-5)


def test_the_margin_of_orthogonal_pairs_in_closed_form():
    value = SupConMarginLoss(0.2, 0.1)(torch.eye(6), torch.arange(6) // 2)
    assert value.item() == pytest.approx(
        math.log(5) + math.sin(0.2) / 0.1, rel=1e-5
    )


# ---- invariances and monotony ----------------------------------------------


@given(seeds, st.sampled_from(OPTIONS))
@few
def test_invariant_to_order_rotation_and_scale(seed, options):
    margin_type, denominator, mode = options
    loss = SupConMarginLoss(0.3, 0.2, margin_type, denominator, mode)
    z, labels = random_batch(seed)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(z), dtype=z.dtype, generator=generator)
    expected = loss(z, labels, weights)

    order = torch.randperm(len(z), generator=generator)
    shuffled = loss(z[order], labels[order], weights[order])
    torch.testing.assert_close(shuffled, expected)

    rotation = torch.linalg.qr(
        torch.randn(5, 5, dtype=z.dtype, generator=generator)
    )[0]
    torch.testing.assert_close(loss(z @ rotation, labels, weights), expected)

    renamed = 1000 - 7 * labels
    torch.testing.assert_close(loss(z, renamed, weights), expected)


@given(seeds, st.floats(-20, 20))
@few
def test_invariant_to_the_scale_of_each_embedding(seed, exponent):
    z, labels = random_batch(seed)
    z = z.float()
    loss = SupConMarginLoss(0.2)
    scale = torch.full((len(z), 1), 10.0**exponent)
    scale[0] = 1.0
    scaled = (z * scale).requires_grad_()
    value = loss(scaled, labels)
    torch.testing.assert_close(value, loss(z, labels), rtol=1e-4, atol=1e-5)
    value.backward()
    z.requires_grad_()
    loss(z, labels).backward()
    # The longer the vector, the smaller its gradient.
    torch.testing.assert_close(
        scaled.grad * scale, z.grad, rtol=1e-3, atol=1e-4
    )


@given(
    st.floats(0.0, math.pi),
    margins,
    margins,
    st.sampled_from(DENOMINATORS),
)
@settings(max_examples=80, deadline=None)
def test_a_larger_margin_never_lowers_the_loss(theta, m1, m2, denominator):
    """On the whole circle, so where theta + m exceeds pi too."""
    z = torch.cat([at_angle(theta), torch.tensor([[0.0, 0, 1]]).double()])
    labels = torch.tensor([0, 0, 1])
    small, large = (
        SupConMarginLoss(m, 0.2, margin_in_denominator=denominator)(z, labels)
        for m in sorted([m1, m2])
    )
    assert small <= large + 1e-12


@given(
    st.floats(0.0, math.pi),
    st.floats(0.0, math.pi),
    margins,
    st.sampled_from(["positive", "all_positives"]),
)
@settings(max_examples=80, deadline=None)
def test_a_wider_pair_never_lowers_the_loss(t1, t2, margin, denominator):
    negative = torch.tensor([[0.0, 0, 1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    loss = SupConMarginLoss(margin, 0.2, margin_in_denominator=denominator)
    near, wide = (
        loss(torch.cat([at_angle(theta), negative]), labels)
        for theta in sorted([t1, t2])
    )
    assert near <= wide + 1e-12


@given(margins)
@few
def test_the_margined_cosine_has_no_jump_where_theta_and_m_pass_pi(margin):
    labels = torch.tensor([0, 0])
    loss = SupConMarginLoss(margin, 1.0)
    before, after = (
        loss(at_angle(min(math.pi - margin + step, math.pi)), labels)
        for step in (-1e-7, 1e-7)
    )
    assert before.item() == pytest.approx(after.item(), abs=1e-6)


# ---- the ends of the cosine ------------------------------------------------


@pytest.mark.parametrize("theta", [1e-6, 1e-4, 1e-2, 1.0, 2.0, 2.9])
def test_gradient_of_a_close_pair_float64(theta):
    """|dL/dz| = |sin(theta + m) - sin(theta)| / tau, in closed form."""
    z = at_angle(theta)
    SupConMarginLoss(0.2, 0.5)(z, torch.tensor([0, 0])).backward()
    expected = abs(math.sin(theta + 0.2) - math.sin(theta)) / 0.5
    torch.testing.assert_close(
        z.grad.norm(dim=1),
        torch.full((2,), expected, dtype=z.dtype),
        rtol=2e-3,
        atol=1e-7,
    )


@pytest.mark.parametrize(
    "theta, tolerance",
    [(1e-5, 1e-2), (1e-3, 1e-3), (1e-2, 1e-4), (0.1, 1e-4), (3.0, 1e-4)],
)
def test_gradient_of_a_close_pair_float32(theta, tolerance):
    z = at_angle(theta, torch.float32)
    SupConMarginLoss(0.1, 0.5)(z, torch.tensor([0, 0])).backward()
    expected = abs(math.sin(theta + 0.1) - math.sin(theta)) / 0.5
    torch.testing.assert_close(
        z.grad.norm(dim=1), torch.full((2,), expected), rtol=tolerance, atol=0
    )


@pytest.mark.parametrize("theta", [1e-7, 1e-6, 1e-5, 1e-4, 5e-4])
def test_gradient_below_the_rounding_of_float32_lives_and_is_bounded(theta):
    z = at_angle(theta, torch.float32)
    SupConMarginLoss(0.2, 0.5)(z, torch.tensor([0, 0])).backward()
    length = z.grad.norm(dim=1)
    assert (length > 0).all()
    assert (length < 1.1 * math.sin(0.2) / 0.5).all()


@pytest.mark.parametrize("temperature", [0.01, 100.0])
@pytest.mark.parametrize(
    "case",
    ["random", "identical", "opposite", "zeros", "one speaker", "huge", "tiny"],
)
def test_finite_at_every_limit(case, temperature):
    torch.manual_seed(4)
    z, labels = torch.randn(12, 8), torch.arange(12) // 3
    if case == "identical":
        z = torch.ones(12, 8)
    elif case == "opposite":
        z = torch.ones(12, 8) * (-1.0) ** torch.arange(12)[:, None]
    elif case == "zeros":
        z[::2] = 0.0
    elif case == "one speaker":
        labels = torch.zeros(12, dtype=torch.long)
        z[0] = -z[1]
    elif case in ("huge", "tiny"):
        z = z * {"huge": 1e30, "tiny": 1e-30}[case]
    weights = torch.logspace(-30, 0, 12).requires_grad_()
    for options, a in itertools.product(OPTIONS, (None, weights)):
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


def test_anchors_without_a_positive_are_left_out_of_the_mean():
    """They are still negatives of the others."""
    z, labels = torch.eye(5), torch.tensor([0, 0, 1, 2, 3])
    value = SupConMarginLoss(0.0)(z, labels)
    assert value.item() == pytest.approx(math.log(4), rel=1e-5)


def test_nan_in_the_embeddings_is_nan_in_the_loss():
    z = torch.randn(6, 4)
    z[2, 1] = math.nan
    assert SupConMarginLoss()(z, torch.arange(6) // 2).isnan()


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
    gradients = []
    for mode in (TF32(), contextlib.nullcontext()):
        exact = not isinstance(mode, TF32)
        leaf = (z.double() if exact else z.clone()).requires_grad_()
        with mode:
            # At this temperature the negatives have their share too.
            value = SupConMarginLoss(0.2, 0.3)(leaf, labels)
        gradients.append(torch.autograd.grad(value, leaf)[0].double())
    ours, exact = gradients
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


def test_without_a_gradient_none_is_computed():
    z, labels = random_batch(11)[0].requires_grad_(), torch.arange(10) // 2
    with torch.no_grad(), FlopCounterMode(display=False) as plain:
        value = SupConMarginLoss()(z, labels)
    with FlopCounterMode(display=False) as whole:
        same = SupConMarginLoss()(z, labels)
    assert not value.requires_grad and torch.equal(value, same)
    products = 2 * len(z) ** 2 * z.shape[1]
    assert plain.get_total_flops() == products < whole.get_total_flops()


def test_a_second_derivative_is_refused():
    z, labels = random_batch(12)
    z.requires_grad_()
    value = SupConMarginLoss()(z, labels)
    with pytest.raises(RuntimeError, match="twice"):
        torch.autograd.grad(value, z, create_graph=True)


class Waits(TorchDispatchMode):
    """The operations at which a host waits for an accelerator."""

    NAMES = frozenset(
        "_local_scalar_dense nonzero _unique2 unique_consecutive "
        "masked_select is_nonzero equal".split()
    )

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if (name := function.overloadpacket.__name__) in self.NAMES:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("rescale", ["best_class", "max", "mean", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_host_waits_in_loss_and_attention(dtype, rescale):
    """Where the labels lie on the host."""
    labels = torch.arange(8) % 3
    z = torch.randn(8, 4, dtype=dtype, requires_grad=True)
    vectors = torch.randn(3, 4, requires_grad=True)
    with Waits() as counter:
        weights = ClassAwareAttention(rescale=rescale)(z, labels, vectors)
        SupConMarginLoss()(z, labels, weights).backward()
        assert counter.found == []
        (torch.arange(8) % 3).nonzero()
    assert counter.found == ["nonzero"]


def test_a_compiler_gives_the_same():
    loss = SupConMarginLoss()
    compiled = torch.compile(SupConMarginLoss(), backend="aot_eager")
    for labels in (torch.arange(8) % 3, torch.arange(8)):
        z, weights = torch.randn(8, 4, requires_grad=True), torch.rand(8)
        results = []
        for function in (loss, compiled):
            value = function(z, labels, weights)
            results.append((value, torch.autograd.grad(value, z)[0]))
        torch.testing.assert_close(*results)


# ---- types and shapes ------------------------------------------------------


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
    # Computed in float32 whatever the autocast state.
    torch.testing.assert_close(
        value.double(), loss(exact, labels), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_the_chunk_size_changes_nothing(options):
    margin_type, denominator, mode = options
    z, labels = random_batch(6, 8, 40, 12)
    z = z.float()
    results = []
    for chunk_size in (None, 1, 7, 40):
        leaf = z.clone().requires_grad_()
        weights = torch.linspace(0.1, 1.0, 40, requires_grad=True)
        loss = SupConMarginLoss(
            0.2, 0.1, margin_type, denominator, mode, chunk_size
        )
        value = loss(leaf, labels, weights)
        value.backward()
        results.append((value.detach(), leaf.grad, weights.grad))
    for result in results[1:]:
        for chunked, whole in zip(result, results[0], strict=False):
            torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5)


def test_speechbrain_shapes():
    z, labels = random_batch(7)
    loss = SupConMarginLoss()
    expected = loss(z, labels)
    assert torch.equal(loss(z[:, None], labels[:, None]), expected)
    assert torch.equal(loss(z, labels[:, None]), expected)


def test_the_gradient_scales_with_what_follows_the_loss():
    z, labels = random_batch(8)
    z.requires_grad_()
    loss = SupConMarginLoss()
    once = torch.autograd.grad(loss(z, labels), z)[0]
    thrice = torch.autograd.grad(3 * loss(z, labels), z)[0]
    torch.testing.assert_close(thrice, 3 * once)


def test_a_constant_attention_gets_no_gradient():
    z, labels = random_batch(9)
    weights = torch.rand(len(z))
    SupConMarginLoss()(z.requires_grad_(), labels, weights).backward()
    assert weights.grad is None and z.grad.abs().sum() > 0


# ---- refusals --------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": 10}, "radians"),
        ({"margin": math.nan}, "margin=nan"),
        ({"margin": 2.0, "margin_type": "cosine"}, "margin=2.0"),
        ({"margin_type": "degrees"}, "margin_type='degrees'"),
        ({"margin_in_denominator": "all"}, "margin_in_denominator='all'"),
        ({"attention_on": "positives"}, "attention_on='positives'"),
        ({"chunk_size": 0}, "chunk_size=0"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SupConMarginLoss(**options)


@pytest.mark.parametrize(
    "embeddings, labels, weights, message",
    [
        (torch.zeros(4), torch.zeros(4).long(), None, "embeddings must be"),
        (torch.zeros(4, 2, 3), torch.zeros(4).long(), None, r"\[4, 2, 3\]"),
        (torch.zeros(4, 3), torch.zeros(5).long(), None, r"\[5\]"),
        (torch.zeros(4, 3), torch.zeros(4), None, "integers"),
        (torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(3), r"\[3\]"),
        (torch.zeros(4, 3), torch.zeros(4).long(), torch.ones(4, 1), "4, 1"),
        (torch.zeros(4, 3), torch.zeros(4).bool(), None, "integers"),
        (torch.zeros(4, 3), [0, 0, 1, 1], None, "labels must be .* not list"),
        (torch.zeros(4, 3), np.zeros(4), None, "labels must be .* ndarray"),
        (torch.zeros(4, 3), ["a"] * 4, None, "labels must be .* not list"),
        (np.zeros((4, 3)), torch.zeros(4).long(), None, "embeddings must be"),
        (
            torch.zeros(4, 3),
            torch.zeros(4).long(),
            tuple(torch.zeros(3, 2)),
            "sample_weights must be .* not tuple",
        ),
    ],
)
def test_batches_that_do_not_fit_are_refused(
    embeddings, labels, weights, message
):
    with pytest.raises(ValueError, match=message):
        SupConMarginLoss()(embeddings, labels, weights)
