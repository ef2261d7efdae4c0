"""Class-aware attention, and what it does to the contrastive gradient."""

import math

import pytest
import torch
from hypothesis import (
    assume,
    given,
    settings,
    strategies as st,
)

from speechbrain_scl.attention import ClassAwareAttention, class_cosines
from speechbrain_scl.losses import SupConMarginLoss

RESCALES = ("best_class", "max", "mean", "none")
MODES = ("negatives", "logits")

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def softmax_loop(f, labels, class_weights, scale):
    """a_i before it is rescaled, one sample at a time."""
    attention = []
    for i, label in enumerate(labels.tolist()):
        exps = [
            math.exp(scale * torch.cosine_similarity(f[i], c, dim=0).item())
            for c in class_weights
        ]
        attention.append(exps[label] / sum(exps))
    return f.new_tensor(attention)


def random_case(seed, n=12, n_classes=5, dim=6):
    generator = torch.Generator().manual_seed(seed)
    f, c = (
        torch.randn(rows, dim, dtype=torch.float64, generator=generator)
        for rows in (n, n_classes)
    )
    labels = torch.randint(n_classes, (n,), generator=generator)
    return f, labels, c


# ---- the equation ----------------------------------------------------------


@given(seeds, st.floats(0.5, 30.0))
@few
def test_every_rescaling_equals_the_equation(seed, scale):
    """Whatever the length of embeddings and class vectors."""
    f, labels, c = random_case(seed)
    raw = softmax_loop(f, labels, c, scale)
    cos = torch.cosine_similarity(f[:, None], c[None], dim=2)
    own = cos.gather(1, labels[:, None]).squeeze(1)
    expected = {
        "none": raw,
        "max": raw / raw.max(),
        "mean": (raw / raw.mean()).clamp_max(1.0),
        "best_class": torch.exp(scale * (own - cos.max(1).values)),
    }
    lengths = torch.linspace(0.01, 100.0, len(f), dtype=f.dtype)[:, None]
    for rescale in RESCALES:
        a = ClassAwareAttention(scale, rescale)(f * lengths, labels, 7 * c)
        torch.testing.assert_close(a, expected[rescale])
        assert (a > 0).all() and (a <= 1).all()


@pytest.mark.parametrize("rescale", ["best_class", "max", "mean"])
@pytest.mark.parametrize("n_classes", [2, 1211, 7205])
def test_alive_at_initialisation_however_many_classes(n_classes, rescale):
    """Without rescaling, a is about 1/C and all pairs would fade."""
    torch.manual_seed(0)
    f, c = torch.randn(64, 192), torch.empty(n_classes, 192)
    torch.nn.init.xavier_uniform_(c)
    labels = torch.randint(n_classes, (64,))
    a = ClassAwareAttention(10.0, rescale)(f, labels, c)
    assert a.mean() > 0.05
    assert a.std() > 0.01  # and it tells samples apart
    if n_classes > 1000:
        plain = ClassAwareAttention(10.0, "none")(f, labels, c)
        assert plain.mean() < 0.01


@pytest.mark.parametrize("rescale", RESCALES)
def test_a_classifiers_cosines_are_enough(rescale):
    """To the bit, also in SpeechBrain's shapes, which must not broadcast."""
    f, labels, c = random_case(8)
    attention = ClassAwareAttention(5.0, rescale)
    expected = attention(f, labels, c)
    assert torch.equal(attention(f[:, None], labels[:, None], c), expected)
    cosines = class_cosines(f, c)
    assert torch.equal(attention.of_cosines(cosines, labels), expected)
    found = attention.of_cosines(cosines[:, None], labels[:, None])
    assert torch.equal(found, expected)


@pytest.mark.parametrize("rescale", RESCALES)
def test_detached_or_not(rescale):
    f, labels, c = random_case(4)
    f.requires_grad_()
    c.requires_grad_()
    a = ClassAwareAttention(5.0, rescale, detach=True)(f, labels, c)
    assert not a.requires_grad
    attention = ClassAwareAttention(5.0, rescale, detach=False)
    assert torch.equal(attention(f, labels, c), a)
    assert torch.autograd.gradcheck(
        lambda f, c: attention(f, labels, c), (f, c)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.half])
def test_low_precision_and_autocast(dtype):
    f, labels, c = random_case(5)
    expected = ClassAwareAttention()(f.to(dtype).float(), labels, c.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        a = ClassAwareAttention()(f.to(dtype), labels, c.float())
    assert a.dtype == torch.float32
    torch.testing.assert_close(a, expected)


@pytest.mark.parametrize("rescale", RESCALES)
def test_nothing_to_attend_to(rescale):
    f, labels, c = random_case(6)
    attention = ClassAwareAttention(rescale=rescale)
    assert attention(torch.zeros_like(f), labels, c).isfinite().all()
    assert attention(f[:0], labels[:0], c).shape == (0,)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": 0.0}, "scale=0.0"),
        ({"scale": math.nan}, "scale=nan"),
        ({"scale": math.inf}, "scale=inf"),
        ({"rescale": "median"}, "rescale='median'"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClassAwareAttention(**options)


@pytest.mark.parametrize(
    "labels, shape, message",
    [
        ([0, 1], (5, 3), "not list"),
        (torch.tensor([True, False]), (5, 3), "integers"),
        (torch.tensor([0.0, 1.0]), (5, 3), "integers"),
        (torch.tensor([0, 1, 2]), (5, 3), r"\[3\]"),
        (torch.tensor([0, 5]), (5, 3), "0 ... 4.* not 5"),
        (torch.tensor([-1, 0]), (5, 3), "not -1"),
        (torch.tensor([0, 1]), (5, 4), r"\[C, 3\] or .* not \[5, 4\]"),
        (torch.tensor([0, 1]), (5, 1, 1, 3), r"not \[5, 1, 1, 3\]"),
        (torch.tensor([0, 1]), (), r"not \[\]"),
    ],
)
def test_what_does_not_fit_is_refused(labels, shape, message):
    with pytest.raises(ValueError, match=message):
        ClassAwareAttention()(torch.randn(2, 3), labels, torch.randn(shape))


# ---- what it is for --------------------------------------------------------
# One pair of a speaker at the same place (so that both are the same anchor)
# and samples of other speakers: the gradient that a negative receives is then
# |dL/dcos| |d cos/dz|, and its second factor has nothing to do with attention.


def one_anchor(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    z = torch.cat([z[:1], z])
    labels = torch.tensor([0, *range(7)])
    weights = torch.rand(len(z), dtype=z.dtype, generator=generator)
    return z, labels, weights


def pull(z, labels, weights, mode):
    """Length of the gradient at each sample."""
    z = z.clone().requires_grad_()
    loss = SupConMarginLoss(0.2, 0.2, attention_on=mode)
    loss(z, labels, weights).backward()
    return z.grad.norm(dim=1)


@given(seeds, st.floats(0.05, 0.95))
@few
def test_on_negatives_less_attention_means_less_gradient(seed, factor):
    z, labels, weights = one_anchor(seed)
    least = weights.argmin()
    if labels[least] > 0:
        without = pull(z, labels, None, "negatives")
        assert pull(z, labels, weights, "negatives")[least] < without[least]
    hard = 2 + seed % 6
    less = weights.clone()
    less[hard] *= factor
    assume(less[hard] < weights[:2].min())  # below that the min is the other's
    before = pull(z, labels, weights, "negatives")
    assert pull(z, labels, less, "negatives")[hard] < before[hard]


@given(seeds)
@few
def test_on_logits_the_hardest_negative_contributes_less(seed):
    """If it is also the least attended one: multiplying a logit lowers its
    share only where the cosine is positive, and no other may fade faster."""
    z, labels, weights = one_anchor(seed)
    cos = torch.cosine_similarity(z[:1], z, dim=1)
    cos[:2] = -1.0
    hard = cos.argmax()
    assume(cos[hard] > 0)
    weights[:2] = 1.0
    weights[hard] = 0.9 * weights.min()
    without = pull(z, labels, None, "logits")
    assert pull(z, labels, weights, "logits")[hard] < without[hard]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rescale", RESCALES)
def test_a_mislabelled_sample_contributes_less(mode, rescale):
    """From the class vectors on: speaker 0's voice under speaker 1's name."""
    torch.manual_seed(1)
    class_weights = torch.eye(4, dtype=torch.float64)
    labels = torch.arange(4).repeat(3)
    z = class_weights[labels] + 0.2 * torch.randn(12, 4, dtype=torch.float64)
    wrong = 5
    z[wrong] = class_weights[0] + 0.1
    attention = ClassAwareAttention(10.0, rescale)
    weights = attention(z, labels, class_weights)
    assert weights.argmin() == wrong
    with_attention = pull(z, labels, weights, mode)
    without = pull(z, labels, None, mode)
    relative = with_attention / with_attention.sum()
    assert relative[wrong] < (without / without.sum())[wrong]
    assert with_attention[wrong] < without[wrong]
