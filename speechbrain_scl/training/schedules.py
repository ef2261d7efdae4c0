"""Learning rates and margins over a training run: functions of how many epochs
are done, fractions included, so that no checkpoint has to hold them."""

import inspect
import math

from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain_scl.errors import UserError


class WarmupCosine:
    """A learning rate that rises in a line from ``final`` to ``peak`` for
    ``warmup_epochs``, then falls along half a cosine: with s the share of the
    epochs after them that is done (Loshchilov and Hutter, "SGDR", ICLR 2017),

        lr = final + (peak - final) (1 + cos(pi s)) / 2
    """

    def __init__(self, peak, epochs, warmup_epochs=1.0, final=1e-6):
        if not 0 <= warmup_epochs < epochs:
            raise ValueError(
                f"warmup_epochs={warmup_epochs}: at least 0, and less than "
                f"epochs={epochs}"
            )
        if not 0 < final <= peak:
            raise ValueError(f"final={final}: above 0, up to peak={peak}")
        self.peak, self.final = peak, final
        self.epochs, self.warmup_epochs = epochs, warmup_epochs

    def at(self, done):
        """The rate when ``done`` epochs are done, fractions included."""
        if done < self.warmup_epochs:
            share = done / self.warmup_epochs
            return self.final + (self.peak - self.final) * share
        falling = self.epochs - self.warmup_epochs
        return self._fall(min((done - self.warmup_epochs) / falling, 1.0))

    def _fall(self, share):
        height = (1 + math.cos(math.pi * share)) / 2
        return self.final + (self.peak - self.final) * height

    def __call__(self, epoch):
        """The rates at an epoch's start and end, as SpeechBrain's answer."""
        return self.at(epoch - 1), self.at(epoch)


class WarmupExponential(WarmupCosine):
    """As ``WarmupCosine``, but falling by the same factor in every epoch:
    lr = peak (final / peak)^s."""

    def _fall(self, share):
        return self.peak * (self.final / self.peak) ** share


class MarginWarmup:
    """Margins that grow from zero in a line: a whole one is too much at first,
    when classes mean nothing yet. Those of ``loss``, such as an ``Objective``,
    and of what it holds grow to what they are now, until ``epochs`` are done (0
    leaves them alone).
    """

    def __init__(self, loss, epochs):
        if not 0 <= epochs < math.inf:
            raise ValueError(f"epochs={epochs}: it must be at least 0")
        self.epochs = epochs
        self.losses = [
            (m, m.margin) for m in loss.modules() if hasattr(m, "margin")
        ]
        if not self.losses:
            raise ValueError(f"{type(loss).__name__} has no margin")

    def update(self, done):
        """Sets the margins when ``done`` epochs are done."""
        share = min(done / self.epochs, 1.0) if self.epochs else 1.0
        for loss, whole in self.losses:
            loss.margin = share * whole
            if hasattr(loss, "cos_m"):  # SpeechBrain's keeps what follows
                loss.cos_m = math.cos(loss.margin)
                loss.sin_m = math.sin(loss.margin)
                loss.th = -loss.cos_m
                loss.mm = loss.sin_m * loss.margin


def anneal_step(annealing, optimizer, done, updates):
    """Sets the learning rate before a step, where a schedule (SpeechBrain's, of
    this module, or None) goes by steps; ``done`` epochs, with their fraction,
    and ``updates`` steps are done."""
    if hasattr(annealing, "at"):
        update_learning_rate(optimizer, annealing.at(done))
    elif hasattr(annealing, "on_batch_end"):
        annealing.on_batch_end(optimizer)
    elif "opt" in _arguments_of(annealing):
        _call(annealing, opt=optimizer, num_updates=updates)


def anneal_epoch(annealing, optimizer, epoch, error_rate):
    """Sets the learning rate after an epoch, where a schedule goes by epochs
    or by the validation's error rate; returns the rate of the epoch."""
    if annealing is None or "opt" in _arguments_of(annealing):
        return optimizer.param_groups[0]["lr"]
    rate, following = _call(
        annealing,
        epoch=epoch,
        current_epoch=epoch,
        metric_value=error_rate,
        current_loss=error_rate,
        optim_list=[optimizer],
    )
    update_learning_rate(optimizer, following)
    return rate


def _arguments_of(annealing):
    # Their names tell SpeechBrain's kinds of schedules from each other.
    if annealing is None:
        return ()
    if not callable(annealing):
        raise UserError(
            f"lr_annealing: {type(annealing).__name__} cannot be called as "
            "the schedules of speechbrain.nnet.schedulers and "
            "speechbrain_scl.training.schedules are"
        )
    return inspect.signature(annealing).parameters


def _call(annealing, **known):
    names = _arguments_of(annealing)
    if missing := [name for name in names if known.get(name) is None]:
        raise UserError(
            f"lr_annealing: {type(annealing).__name__} goes by "
            f"{', '.join(missing)}, which this run does not have; give a "
            "validation set where that is an error rate"
        )
    return annealing(**{name: known[name] for name in names})
