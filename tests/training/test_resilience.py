"""The Brain in long runs: bad batches, interruptions, several processes."""

import logging
import os
import signal

import pytest
import torch
from small_brain import parameters_of

from speechbrain.nnet.schedulers import CyclicLRScheduler
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain_scl.errors import UserError
from speechbrain_scl.training.checkpoints import CompleteCheckpointer
from speechbrain_scl.training.resilience import ResilientBrain


class Line(ResilientBrain):
    """Random draws and a schedule in every step."""

    at_batch = None

    def compute_forward(self, batch, stage):
        return self.modules.model(batch)

    def compute_objectives(self, predictions, batch, stage):
        if self.at_batch is not None and stage.name == "TRAIN":
            self.at_batch(self.step)
        noise = torch.rand(())
        return (predictions * noise).square().mean()

    def on_fit_batch_start(self, batch, should_step):
        super().on_fit_batch_start(batch, should_step)
        if should_step:
            self.hparams.lr_annealing.on_batch_end(self.optimizer)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage.name == "VALID" and self.checkpointer is not None:
            self.checkpointer.save_and_keep_only()
        super().on_stage_end(stage, stage_loss, epoch)


def line(folder=None, model=None, **run_opts):
    torch.manual_seed(0)
    model = model or torch.nn.Linear(3, 1)
    counter = EpochCounter(2)
    checkpointer = folder and CompleteCheckpointer(
        folder, {"model": model, "counter": counter}
    )
    schedule = CyclicLRScheduler(0.01, 0.1, 3)
    return Line(
        {"model": model},
        lambda params: torch.optim.Adam(params, lr=0.1),
        {"epoch_counter": counter, "lr_annealing": schedule},
        run_opts,
        checkpointer,
    )


def batches():
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(6, 4, 3, generator=generator))


def fit(brain):
    rows = torch.cat(batches())
    of_four, counter = {"batch_size": 4}, brain.hparams.epoch_counter
    brain.fit(counter, rows, rows, False, {**of_four, "shuffle": True}, of_four)
    return brain


class Sometimes(torch.nn.Linear):
    """Of whose weight the gradient is infinite, and of whose bias it is not,
    which must stay all the same."""

    broken = True

    def forward(self, x):
        y = torch.nn.functional.linear(x, self.weight)
        if self.broken:
            y.register_hook(lambda gradient: gradient * float("inf"))
        return y + self.bias


def test_a_gradient_that_is_not_finite_drops_the_whole_step(caplog):
    model = Sometimes(3, 1)
    brain = line(model=model, nonfinite_patience=1)
    brain.on_fit_start()
    before = parameters_of(brain.modules)
    with caplog.at_level(logging.WARNING):
        brain.fit_batch(batches()[0])
    assert "gradient is not finite" in caplog.text
    assert torch.equal(parameters_of(brain.modules), before)
    assert brain.nonfinite_count == 1
    model.broken = False
    brain.fit_batch(batches()[1])
    assert parameters_of(brain.modules).isfinite().all()
    assert not torch.equal(parameters_of(brain.modules), before)
    model.broken = True
    with pytest.raises(UserError, match="nonfinite_patience is 1"):
        brain.fit_batch(batches()[2])


def test_a_bad_micro_batch_drops_its_step_and_no_other():
    """Also one that is left over at an epoch's end."""
    brain = line(grad_accumulation_factor=2)
    bad, good = batches()[0] * float("nan"), batches()[1:]
    found = [parameters_of(brain.modules)]
    for epoch, rows in enumerate(
        ([bad, good[0]], [*good[:2], bad], good[2:]), 1
    ):
        brain.fit([epoch], rows, progressbar=False)
        found.append(parameters_of(brain.modules))
        assert brain.nonfinite_count == (bad is rows[0]) + (bad is rows[-1])
    assert brain.optimizer_step == 3
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
    assert not torch.equal(found[2], found[3])
    assert brain.step_ids == []


def test_a_signal_saves_and_the_run_goes_on(tmp_path, capsys):
    """Between optimiser steps, with random draws and schedule in place."""
    opts = {"grad_accumulation_factor": 2}
    whole = fit(line(tmp_path / "whole", **opts))
    brain = line(tmp_path / "parts", **opts)
    brain.at_batch = lambda step: step == 3 and signal.raise_signal(15)
    with pytest.raises(SystemExit) as caught:
        fit(brain)
    assert caught.value.code == 128 + 15 and brain.step == 4
    said = capsys.readouterr().err
    assert str(tmp_path / "parts") in said and said.count("\n") == 1
    again = fit(line(tmp_path / "parts", **opts))
    assert torch.equal(
        parameters_of(whole.modules), parameters_of(again.modules)
    )
    assert whole.optimizer_step == again.optimizer_step > 4


def fail():
    raise UserError("a.wav: cannot be read (...)")


@pytest.mark.parametrize(
    "fail, said",
    [
        (fail, "^a.wav: cannot be read [(]...[)]$"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "lower num_workers"),
    ],
)
def test_what_befalls_a_loader_worker_is_one_line(fail, said):
    class InAWorker(list):
        def __getitem__(self, index):
            return fail()

    workers = {"num_workers": 1}
    with pytest.raises(UserError, match=said) as told:
        line().fit([1], InAWorker("abcd"), None, False, workers)
    assert "\n" not in str(told.value)


def test_batch_normalisation_on_gloo_is_refused(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):  # as torchrun starts a process
        monkeypatch.setenv(name, "0")
    model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.BatchNorm1d(1))
    brain = line(model=model, distributed_backend="gloo", device="cpu")
    with pytest.raises(UserError, match="model.1 is a batch norm.*GPUs"):
        brain.on_fit_start()


def test_a_bad_batch_leaves_no_trace_in_statistics_that_are_replaced():
    """As SpeechBrain's global normalisation does, by assignment."""

    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x):
            self.mean = 0.5 * self.mean + 0.5 * x.mean().detach()
            return self.weight * x - self.mean

    brain = line(model=Mean())
    brain.on_fit_start()
    brain.fit_batch(batches()[0])
    before = brain.modules.model.mean.clone()
    brain.fit_batch(batches()[1] * float("nan"))
    assert torch.equal(brain.modules.model.mean, before)
    brain.fit_batch(batches()[1])
    assert not torch.equal(brain.modules.model.mean, before)
