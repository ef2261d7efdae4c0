"""Class-aware attention, and what it does to the contrastive gradient."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from speechbrain_scl.attention import ClassAwareAttention, class_cosines
from speechbrain_scl.losses import SupConMarginLoss

RESCALES = ("best_class", "max", "mean", "none")


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


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 30.0))
@settings(max_examples=20)
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
    # Nothing to attend to
    assert attention(0 * f, labels, c).isfinite().all()
    assert attention(f[:0], labels[:0], c).shape == (0,)


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


@pytest.mark.parametrize(
    "options, labels, shape, message",
    [
        ({"scale": 0.0}, [], (), "scale=0.0"),
        ({"scale": math.nan}, [], (), "scale=nan"),
        ({"scale": math.inf}, [], (), "scale=inf"),
        ({"rescale": "median"}, [], (), "rescale='median'"),
        ({}, [0, 1], (5, 3), "not list"),
        ({}, torch.tensor([True, False]), (5, 3), "integers"),
        ({}, torch.tensor([0.0, 1.0]), (5, 3), "integers"),
        ({}, torch.tensor([0, 1, 2]), (5, 3), r"\[3\]"),
        ({}, torch.tensor([0, 5]), (5, 3), "0 ... 4.* not 5"),
        ({}, torch.tensor([-1, 0]), (5, 3), "not -1"),
        ({}, torch.tensor([0, 1]), (5, 4), r"\[C, 3\] or .* not \[5, 4\]"),
        ({}, torch.tensor([0, 1]), (5, 1, 1, 3), r"not \[5, 1, 1, 3\]"),
        ({}, torch.tensor([0, 1]), (), r"not \[\]"),
    ],
)
def test_what_does_not_fit_is_refused(options, labels, shape, message):
    with pytest.raises(ValueError, match=message):
        attention = ClassAwareAttention(**options)
        attention(torch.randn(2, 3), labels, torch.randn(shape))


@pytest.mark.parametrize("mode", ["negatives", "logits"])
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
    lengths = []
    for a in (weights, None):
        leaf = z.clone().requires_grad_()
        loss = SupConMarginLoss(0.2, 0.2, attention_on=mode)
        loss(leaf, labels, a).backward()
        lengths.append(leaf.grad.norm(dim=1))
    with_attention, without = lengths
    relative = with_attention / with_attention.sum()
    assert relative[wrong] < (without / without.sum())[wrong]
    assert with_attention[wrong] < without[wrong]
