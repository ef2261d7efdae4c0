"""Schedules: closed forms, and no dependence on the batches."""

import math

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)

from speechbrain.nnet.losses import AdditiveAngularMargin, AngularMargin
from speechbrain_scl.balancing import FixedBalancer, MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.training.schedules import (
    MarginWarmup,
    PreferenceCourse,
    WarmupCosine,
    WarmupExponential,
)

epochs = st.floats(1.5, 200)


@given(epochs, st.floats(0, 1), st.floats(0, 300))
def test_rates_are_those_of_torch_and_of_the_formula(total, warmup, done):
    peak, final = 0.1, 0.001
    cosine = WarmupCosine(peak, total, warmup, final).at(done)
    decay = WarmupExponential(peak, total, warmup, final).at(done)
    assert final * (1 - 1e-9) <= min(cosine, decay)
    assert max(cosine, decay) <= peak * (1 + 1e-9)
    if done < warmup:
        rising = final + (peak - final) * done / warmup
        assert cosine == decay == pytest.approx(rising)
    share = min((done - warmup) / (total - warmup), 1)
    if share >= 0:
        parameter = torch.nn.Parameter(torch.zeros(1))
        steps = 1000
        reference = torch.optim.lr_scheduler.CosineAnnealingLR(
            torch.optim.SGD([parameter], lr=peak), steps, eta_min=final
        )
        # Its closed form takes any step
        reference.last_epoch = share * steps
        (wanted,) = reference._get_closed_form_lr()
        assert cosine == pytest.approx(wanted)
        assert math.log(decay) == pytest.approx(
            (1 - share) * math.log(peak) + share * math.log(final)
        )


@given(st.floats(0.01, 1.5), st.floats(0.5, 20), st.floats(0, 30))
def test_a_grown_margin_is_a_margin_from_the_start(margin, length, done):
    """The loss after an update, and one made with that margin, agree."""
    cosines = torch.linspace(-1, 1, 21).view(7, 3)
    targets = torch.eye(3).repeat(3, 1)[:7]
    share = min(done / length, 1)
    for kind in (AdditiveAngularMargin, AngularMargin):
        grown = kind(margin=margin, scale=30)
        MarginWarmup([grown, None], length).update(done)
        fresh = kind(margin=share * margin, scale=30)
        torch.testing.assert_close(
            grown(cosines, targets), fresh(cosines, targets)
        )
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    grown = SupConMarginLoss(margin=margin)
    MarginWarmup([grown], length).update(done)
    torch.testing.assert_close(
        grown(embeddings, labels),
        SupConMarginLoss(margin=share * margin)(embeddings, labels),
    )


def test_no_warmup_leaves_the_margin_alone():
    loss = SupConMarginLoss(margin=0.3)
    MarginWarmup([loss], 0).update(0)
    assert loss.margin == 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda: WarmupCosine(0.1, epochs=1, warmup_epochs=1),
        lambda: WarmupExponential(0.1, epochs=2, final=0),
        lambda: WarmupCosine(0.1, epochs=2, final=0.2),
        lambda: MarginWarmup([torch.nn.Linear(1, 1)], 1),
        lambda: MarginWarmup([], -1),
    ],
)
def test_mistakes(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("first, last", [([1, 1], [9, 1]), ([9, 1], [1, 4])])
def test_the_preference_moves_from_one_end_to_the_other(first, last):
    balancer = MinNormBalancer("l2", first)
    course = PreferenceCourse(balancer, last, epochs=4)
    seen = []
    for done in (0, 1, 2, 3, 4, 9):
        course.update(done)
        seen.append(balancer.preference[0] / balancer.preference[1])
    ends = [a / b for a, b in (first, last)]
    steps = [(ends[1] / ends[0]) ** (s / 4) for s in (0, 1, 2, 3, 4, 4)]
    assert seen == pytest.approx([ends[0] * step for step in steps])
    # It is what the balancer goes by: orthogonal gradients of equal length.
    weights = balancer.weights(list(torch.eye(2)))
    assert weights[0] / weights[1] == pytest.approx(ends[1])


def test_a_course_to_nowhere_leaves_any_balancer_alone():
    PreferenceCourse(FixedBalancer(), None, epochs=0).update(3)
    with pytest.raises(ValueError, match="FixedBalancer has no preference"):
        PreferenceCourse(FixedBalancer(), [1, 1], epochs=1)
    for last, epochs in (([1, 0], 1), ([1], 1), ([1, 1], 0)):
        with pytest.raises(ValueError, match="preference=|epochs=0"):
            PreferenceCourse(MinNormBalancer(), last, epochs)
