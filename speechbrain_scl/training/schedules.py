"""Learning rates and margins over a training.

Each is a function of how many epochs are done, fractions included: neither
the number of batches in an epoch nor an interruption changes it, and no
checkpoint has to hold it.
"""

import math


class _Warmup:
    """Rises in a line to the peak, then falls in the subclass's curve."""

    def __init__(self, peak, epochs, warmup_epochs=1.0, final=1e-6):
        if not 0 <= warmup_epochs < epochs:
            raise ValueError(
                f"warmup_epochs={warmup_epochs}: at least 0, and less than "
                f"epochs={epochs}"
            )
        if not 0 < final <= peak:
            raise ValueError(f"final={final}: above 0, up to peak={peak}")
        self.peak = peak
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.final = final

    def at(self, done):
        """The rate.

        Arguments
        ---------
        done : float
            Epochs, and the done share of the next one.

        Returns
        -------
        float
        """
        if done < self.warmup_epochs:
            return self.final + (self.peak - self.final) * (
                done / self.warmup_epochs
            )
        falling = self.epochs - self.warmup_epochs
        return self._fall(min((done - self.warmup_epochs) / falling, 1.0))

    def __call__(self, epoch):
        """What SpeechBrain's schedulers answer at the end of an epoch.

        Arguments
        ---------
        epoch : int
            Its number, from 1.

        Returns
        -------
        old, new : float
            The rate at the epoch's start and at its end.
        """
        return self.at(epoch - 1), self.at(epoch)


class WarmupCosine(_Warmup):
    """A learning rate that falls along half a cosine.

    With s the share of the epochs after the warm-up that is done,

        lr = final + (peak - final) (1 + cos(pi s)) / 2

    (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.)

    Arguments
    ---------
    peak : float
        The largest rate, after the warm-up.
    epochs : float
        Of the training; after them the rate stays ``final``.
    warmup_epochs : float
        For which the rate rises in a line from ``final``.
    final : float
        The smallest rate, above 0.

    Raises
    ------
    ValueError
        No epoch is left to fall in, or a final rate above the peak.

    Example
    -------
    >>> rate = WarmupCosine(peak=0.1, epochs=11, warmup_epochs=1, final=0.001)
    >>> [round(rate.at(done), 4) for done in (0, 0.5, 1, 6, 11, 20)]
    [0.001, 0.0505, 0.1, 0.0505, 0.001, 0.001]
    """

    def _fall(self, share):
        height = (1 + math.cos(math.pi * share)) / 2
        return self.final + (self.peak - self.final) * height


class WarmupExponential(_Warmup):
    """A learning rate that falls by the same factor in every epoch.

        lr = peak (final / peak)^s

    with s as for ``WarmupCosine``.

    Arguments
    ---------
    peak, epochs, warmup_epochs, final : float
        As for ``WarmupCosine``.

    Raises
    ------
    ValueError
        As there.

    Example
    -------
    >>> rate = WarmupExponential(peak=0.1, epochs=3, final=0.001)
    >>> [round(rate.at(done), 4) for done in (1, 2, 3)]
    [0.1, 0.01, 0.001]
    """

    def _fall(self, share):
        return self.peak * (self.final / self.peak) ** share


class MarginWarmup:
    """Margins that grow from zero in a line.

    A full margin at random weights pushes where nothing is known yet.

    Arguments
    ---------
    losses : list of torch.nn.Module or None
        Those whose ``margin`` grows to what it is now: ``SupConMarginLoss``,
        and SpeechBrain's ``AdditiveAngularMargin`` and ``AngularMargin``; a
        loss that the experiment does without is passed over.
    epochs : float
        Until the margin is whole; 0 leaves the margins alone.

    Raises
    ------
    ValueError
        A negative time, or a loss without a margin.

    Example
    -------
    >>> from speechbrain.nnet.losses import AdditiveAngularMargin
    >>> loss = AdditiveAngularMargin(margin=0.2, scale=30)
    >>> warmup = MarginWarmup([loss], epochs=4)
    >>> warmup.update(1)
    >>> loss.margin
    0.05
    >>> warmup.update(9)
    >>> loss.margin
    0.2
    """

    def __init__(self, losses, epochs):
        if not 0 <= epochs < math.inf:
            raise ValueError(f"epochs={epochs}: it must be at least 0")
        losses = [loss for loss in losses if loss is not None]
        for loss in losses:
            if not hasattr(loss, "margin"):
                raise ValueError(f"{type(loss).__name__} has no margin")
        self.epochs = epochs
        self.losses = [(loss, loss.margin) for loss in losses]

    def update(self, done):
        """Sets the margins.

        Arguments
        ---------
        done : float
            Epochs, and the done share of the next one.
        """
        share = min(done / self.epochs, 1.0) if self.epochs else 1.0
        for loss, whole in self.losses:
            loss.margin = share * whole
            if hasattr(loss, "cos_m"):  # SpeechBrain's keeps what follows
                loss.cos_m = math.cos(loss.margin)
                loss.sin_m = math.sin(loss.margin)
                loss.th = -loss.cos_m
                loss.mm = loss.sin_m * loss.margin


class PreferenceCourse:
    """What the balancing prefers, from its own preference to another one.

    With s the share of the epochs that is done, each preference is

        first^(1 - s) last^s

    where ``first`` is what the balancer was made with: contrast first, or
    contrast last.

    Arguments
    ---------
    balancer : torch.nn.Module or None
        One with a ``preference``, such as ``MinNormBalancer``.
    last : list of float or None
        The preference at the end; None leaves the balancer alone, whichever
        it is.
    epochs : float
        Until then.

    Raises
    ------
    ValueError
        No time, or a balancer without such a preference.

    Example
    -------
    >>> from speechbrain_scl.balancing import MinNormBalancer
    >>> balancer = MinNormBalancer("l2", preference=[1, 1])
    >>> course = PreferenceCourse(balancer, last=[4, 1], epochs=10)
    >>> course.update(5)
    >>> balancer.preference
    (2.0, 1.0)
    """

    def __init__(self, balancer, last=None, epochs=1.0):
        self.balancer = balancer
        self.last = last
        if last is None:
            return
        if not epochs > 0:
            raise ValueError(f"epochs={epochs}: above 0")
        self.epochs = epochs
        self.first = getattr(balancer, "preference", None)
        if self.first is None:
            raise ValueError(f"{type(balancer).__name__} has no preference")
        balancer.preference = last  # refused here, and not in mid-training
        balancer.preference = self.first

    def update(self, done):
        """Sets the preference.

        Arguments
        ---------
        done : float
            Epochs, and the done share of the next one.
        """
        if self.last is not None:
            share = min(done / self.epochs, 1.0)
            self.balancer.preference = [
                a ** (1 - share) * b**share
                for a, b in zip(self.first, self.last, strict=True)
            ]
