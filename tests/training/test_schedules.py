"""Schedules: closed forms, and no dependence on the batches."""

import pytest
import torch

from speechbrain.nnet import schedulers
from speechbrain.nnet.losses import AdditiveAngularMargin, AngularMargin
from speechbrain_scl.errors import UserError
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.training.classifiers import (
    SampledClassifier,
    SubCentreClassifier,
)
from speechbrain_scl.training.labels import LabelCleaner
from speechbrain_scl.training.near import NearSpeakers
from speechbrain_scl.training.schedules import (
    MarginWarmup,
    WarmupCosine,
    WarmupExponential,
    anneal_epoch,
    anneal_step,
)


@pytest.mark.parametrize("total, warmup", [(1.5, 0), (20, 1), (200, 0.5)])
def test_rates_are_those_of_torch_and_of_the_formula(total, warmup):
    peak, final, steps = 0.1, 0.001, 1000
    cosine = WarmupCosine(peak, total, warmup, final)
    decay = WarmupExponential(peak, total, warmup, final)
    if warmup:
        half = pytest.approx((peak + final) / 2)
        assert cosine.at(warmup / 2) == decay.at(warmup / 2) == half
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1)], lr=peak), steps, eta_min=final
    )
    for share in (0, 0.001, 0.3, 0.5, 0.999, 1):
        done = warmup + share * (total - warmup)
        # Its closed form takes any step
        reference.last_epoch = share * steps
        (wanted,) = reference._get_closed_form_lr()
        assert cosine.at(done) == pytest.approx(wanted)
        wanted = peak ** (1 - share) * final**share
        assert decay.at(done) == pytest.approx(wanted)
    assert cosine.at(total + 5) == decay.at(total + 5) == pytest.approx(final)


@pytest.mark.parametrize(
    "margin, length, done",
    [(0.2, 4, 0), (0.2, 0.5, 0.1), (1.5, 20, 7), (0.3, 2, 9), (0.3, 0, 0)],
)
@pytest.mark.parametrize(
    "kind", [AdditiveAngularMargin, AngularMargin, SupConMarginLoss]
)
def test_a_grown_margin_is_a_margin_from_the_start(kind, margin, length, done):
    """The loss after an update, and one made with that margin, agree."""
    given = torch.linspace(-1, 1, 21).view(7, 3), torch.eye(3).repeat(3, 1)[:7]
    if kind is SupConMarginLoss:
        given = torch.linspace(-1, 1, 24).sin().view(6, 4), torch.arange(6) // 2
    grown = kind(margin)
    MarginWarmup(torch.nn.ModuleList([grown]), length).update(done)
    fresh = kind(min(done / length, 1) * margin if length else margin)
    torch.testing.assert_close(grown(*given), fresh(*given))


@pytest.mark.parametrize(
    "make",
    [
        lambda: WarmupCosine(0.1, epochs=1, warmup_epochs=1),
        lambda: WarmupExponential(0.1, epochs=2, final=0),
        lambda: WarmupCosine(0.1, epochs=2, final=0.2),
        lambda: MarginWarmup(torch.nn.Linear(1, 1), 1),
        lambda: MarginWarmup(SupConMarginLoss(), -1),
        lambda: LabelCleaner(after=0),
        lambda: LabelCleaner(quantile=1.0),
        lambda: NearSpeakers(share=0.0),
        lambda: NearSpeakers(after=-1),
        lambda: SampledClassifier(4, 10, rate=float("nan")),
        lambda: SubCentreClassifier(4, 10, n_centres=0),
    ],
)
def test_an_option_outside_its_range_is_refused(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "schedule, wanted",
    [
        # Halved after the second epoch, whose error rate is no better
        (schedulers.NewBobScheduler(1e-3), [1e-3, 5e-4]),
        (schedulers.ReduceLROnPlateau(0.0, 0.5, 0, 0), [1e-3, 5e-4]),
        # By epochs
        (schedulers.StepScheduler(1e-3, 0.1, 1), [1e-5, 1e-6]),
        (schedulers.LinearScheduler(1e-3, 2e-3, 2), [2e-3, 2e-3]),
        # By steps, of which an epoch has five
        (schedulers.NoamScheduler(1e-3, 100), [5e-5, 1e-4]),
        (schedulers.InverseSquareRootScheduler(5), [5**-0.5, 10**-0.5]),
        (schedulers.WarmCoolDecayLRSchedule(1e-3, 10, 0, 20), [4e-4, 9e-4]),
        (schedulers.CyclicLRScheduler(0, 1e-3, 10), [6e-4, 9e-4]),
        (WarmupCosine(1e-3, 3, 2), [5e-4, 1e-3]),
        (None, [1e-3, 1e-3]),
    ],
)
def test_a_schedule_gets_what_it_goes_by(schedule, wanted):
    """Epochs, optimiser steps or the error rate."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    rates = []
    for epoch, error_rate in ((1, 0.2), (2, 0.3)):
        for step in range(5):
            done = epoch - 1 + step / 5
            anneal_step(schedule, optimizer, done, 5 * (epoch - 1) + step)
        anneal_epoch(schedule, optimizer, epoch, error_rate)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(wanted, rel=1e-2)


def test_a_schedule_that_cannot_be_served_is_told():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    newbob = schedulers.NewBobScheduler(1e-3)
    with pytest.raises(UserError, match="metric_value.*give a validation set"):
        anneal_epoch(newbob, optimizer, 1, None)
    torchs = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(UserError, match="ConstantLR cannot be called"):
        anneal_step(torchs, optimizer, 0, 0)
    with pytest.raises(UserError, match="goes by loss"):
        anneal_epoch(lambda loss: (1, 1), optimizer, 1, 0.1)
