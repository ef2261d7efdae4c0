"""Weights that balance several objectives by their gradients.

A weighting turns the Gramian of the gradients (their dot products) into
weights; ``Balancer`` finds the Gramian and hands it over. TorchJD draws the
same line, so that its weightings fit here.
"""

from typing import NamedTuple

import torch

from speechbrain_scl._minimum_norm import MinimumNorm
from speechbrain_scl.distributed import all_reduce_sum, world_size

__all__ = [
    "Balance",
    "Balancer",
    "FixedBalancer",
    "MinNormBalancer",
    "MinimumNorm",
    "TorchJDBalancer",
]


class Balance(NamedTuple):
    """What a balancer found.

    Arguments
    ---------
    weights : torch.Tensor
        [K], of the objectives, no gradient.
    gram : torch.Tensor or None
        [K, K] dot products of their gradients, float64, over all processes;
        None where the weighting does not look at them.
    """

    weights: torch.Tensor
    gram: torch.Tensor | None


class Balancer(torch.nn.Module):
    """Weighs objectives by the Gramian of their gradients.

    Arguments
    ---------
    weighting : Callable or None
        (gram [K, K], losses) -> weights [K]. None: the subclass's ``weigh``.

    Example
    -------
    >>> balancer = Balancer(lambda gram, losses: 1 / gram.diagonal().sqrt())
    >>> z = torch.ones(4, requires_grad=True)
    >>> balancer([z.sum(), 2 * z.sum()], shared=z)
    tensor([0.5000, 0.2500])
    >>> balancer.balance([z.sum(), 2 * z.sum()], shared=z).gram
    tensor([[ 4.,  8.],
            [ 8., 16.]], dtype=torch.float64)
    """

    def __init__(self, weighting):
        super().__init__()
        self.weighting = weighting

    def forward(self, losses, shared):
        """The weights of losses that were computed from ``shared``.

        Arguments
        ---------
        losses : list of torch.Tensor
            K 0-dim losses with a graph. The graph is kept.
        shared : torch.Tensor or list of torch.Tensor
            What they share: the embeddings [N, D] (each process its own rows),
            or the encoder's parameters (the same on every process).

        Returns
        -------
        torch.Tensor
            [K], no gradient.

        Raises
        ------
        ValueError
            ``shared`` is not what the losses come from, or a loss is no number.
        """
        return self.balance(losses, shared).weights

    def balance(self, losses, shared):
        """As ``forward``, with what the weights were found from.

        Arguments
        ---------
        losses, shared
            As there.

        Returns
        -------
        Balance
        """
        gram = _shared_gram(losses, shared)
        weights = self.weighting(gram, [loss.detach() for loss in losses])
        return Balance(weights.to(torch.get_default_dtype()), gram)


class FixedBalancer(Balancer):
    """Constant weights: the baseline of every balancing method.

    Arguments
    ---------
    weights : list of float
        One non-negative weight per objective; they are divided by their sum.

    Raises
    ------
    ValueError
        A negative weight, or none above zero.

    Example
    -------
    >>> balancer = FixedBalancer([3.0, 1.0])
    >>> z = torch.ones(2, requires_grad=True)
    >>> balancer([z.sum(), (z**2).sum()], shared=z)
    tensor([0.7500, 0.2500])
    """

    def __init__(self, weights=(0.5, 0.5)):
        super().__init__(weighting=None)
        weights = torch.as_tensor(weights, dtype=torch.float32)
        if not (weights >= 0).all() or not 0 < weights.sum() < float("inf"):
            raise ValueError(
                f"weights={weights.tolist()}: they must be finite, not "
                "negative, and at least one above 0"
            )
        self.register_buffer(
            "constant", weights / weights.sum(), persistent=False
        )

    def forward(self, losses, shared=None):
        """The constant weights, on the device of the losses.

        Arguments
        ---------
        losses : list of torch.Tensor
            K 0-dim losses.
        shared : torch.Tensor
            Not needed; there for the balancers that look at gradients.

        Returns
        -------
        torch.Tensor
            [K], sum 1.
        """
        return self.balance(losses, shared).weights

    def balance(self, losses, shared=None):
        """As ``forward``; no gradient is found for it.

        Arguments
        ---------
        losses, shared
            As there.

        Returns
        -------
        Balance
        """
        _check_numbers(losses)
        if len(losses) != len(self.constant):
            raise ValueError(
                f"{len(losses)} losses, but {len(self.constant)} weights"
            )
        if self.constant.device != losses[0].device:  # once
            self.constant = self.constant.to(losses[0].device)
        return Balance(self.constant, None)


class MinNormBalancer(Balancer):
    """Balances two objectives by the minimum norm (MGDA).

    Three dot products are all it takes. Under distributed training they are
    summed over the processes, so that every process finds the same weights.

    Arguments
    ---------
    normalize, preference
        Those of ``MinimumNorm``, which has the equations.

    Raises
    ------
    ValueError
        As there.

    Example
    -------
    >>> balancer = MinNormBalancer()
    >>> balancer.weights([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])])
    tensor([0.2000, 0.8000])
    >>> z = torch.ones(2, requires_grad=True)
    >>> balancer([z.sum(), (z**2).sum()], shared=z)
    tensor([1., 0.])
    """

    def __init__(self, normalize="none", preference=(1.0, 1.0)):
        super().__init__(MinimumNorm(normalize, preference))

    @property
    def preference(self):
        """The weighting's; a schedule may change it."""
        return self.weighting.preference

    @preference.setter
    def preference(self, preference):
        """Hands it on."""
        self.weighting.preference = preference

    def balance(self, losses, shared):
        """As ``Balancer``'s, with the losses' means over the processes.

        Arguments
        ---------
        losses, shared
            As there.

        Returns
        -------
        Balance
        """
        gram = _shared_gram(losses, shared)
        values = None
        if self.weighting.normalize == "loss":
            values = torch.stack([loss.detach() for loss in losses])
            values = list(all_reduce_sum(values) / world_size())
        weights = self.weighting(gram, values)
        return Balance(weights.to(torch.get_default_dtype()), gram)

    def weights(self, gradients, losses=None):
        """The weights of given gradients.

        Arguments
        ---------
        gradients : list of torch.Tensor
            Two tensors of one shape.
        losses : list of torch.Tensor or float
            The losses' values; only ``normalize="loss"`` reads them.

        Returns
        -------
        torch.Tensor
            [2], sum 1, not negative.

        Raises
        ------
        ValueError
            Not two gradients, or no losses where they are needed.
        """
        weights = self.weighting(_gram(gradients), losses)
        return weights.to(torch.get_default_dtype())

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        weighting = self.weighting
        return (
            f"normalize={weighting.normalize}, "
            f"preference={weighting.preference}"
        )


class TorchJDBalancer(Balancer):
    """Any other way to balance, from TorchJD, for any number of objectives
    (https://torchjd.org, the extra ``torchjd``).

    Arguments
    ---------
    weighting : Callable
        [K, K] dot products of the gradients -> [K] weights, e.g.
        ``torchjd.aggregation.IMTLGWeighting()``.

    Example
    -------
    >>> balancer = TorchJDBalancer(lambda gram: 1 / gram.diagonal().sqrt())
    >>> z = torch.ones(4, requires_grad=True)
    >>> balancer([z.sum(), 2 * z.sum()], shared=z)
    tensor([0.5000, 0.2500])
    """

    def __init__(self, weighting):
        super().__init__(lambda gram, losses: weighting(gram))


def _check_numbers(losses):
    if any(loss.numel() != 1 for loss in losses):
        shapes = ", ".join(str(list(loss.shape)) for loss in losses)
        raise ValueError(f"losses must be 0-dim, not of shapes {shapes}")


def _shared_gram(losses, shared):
    """[K, K] dot products of the losses' gradients, over all processes."""
    _check_numbers(losses)
    at_parameters = not isinstance(shared, torch.Tensor)
    inputs = list(shared) if at_parameters else [shared]
    if not all(x.requires_grad for x in inputs):
        raise ValueError("shared: it has no gradient, and nothing to compare")
    gradients = [_gradient(loss, inputs) for loss in losses]
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            "shared: no loss was computed from it; give the very tensor that "
            "went into the losses, not a copy or a view of it"
        )
    length = sum(x.numel() for x in inputs)
    gradients = [
        inputs[0].new_zeros(length) if gradient is None else gradient
        for gradient in gradients
    ]
    if at_parameters:
        # The processes' gradients add up before they are compared.
        gradients = [all_reduce_sum(gradient) for gradient in gradients]
    gram = _gram(gradients)
    # At the embedding each process holds its own rows of one long gradient.
    return gram if at_parameters else all_reduce_sum(gram)


def _gradient(loss, inputs):
    """Flat, or None where the loss does not depend on the inputs (a constant:
    no positive pair in the batch)."""
    if not loss.requires_grad:
        return None
    parts = torch.autograd.grad(
        loss, inputs, retain_graph=True, allow_unused=True
    )
    if all(part is None for part in parts):
        return None
    return torch.cat(
        [
            (torch.zeros_like(x) if part is None else part).flatten()
            for part, x in zip(parts, inputs, strict=True)
        ]
    )


def _gram(gradients):
    rows = torch.stack([g.detach().flatten() for g in gradients])
    return rows.double() @ rows.double().T
