"""Weights that balance several objectives by their gradients.

A weighting turns the Gramian of the gradients (their dot products) into
weights; a balancer finds the Gramian and hands it over. TorchJD
(https://torchjd.org) draws the same line, so that its weightings fit here.
"""

from typing import NamedTuple

import torch

from speechbrain_scl.distributed import all_reduce_sum, world_size

_NORMALIZE = ("none", "l2", "loss")


class Balance(NamedTuple):
    """What a balancer found."""

    weights: torch.Tensor  # [K], of the objectives, no gradient
    # [K, K] dot products of their gradients, float64, over all processes; None
    # where the weights do not depend on them
    gram: torch.Tensor


class Balancer(torch.nn.Module):
    """Weighs objectives by the Gramian of their gradients.

    Under distributed training the dot products are summed over the processes,
    so that every process finds the same weights.

    Arguments
    ---------
    weighting : Callable
        [K, K] dot products of the gradients -> [K] weights, for example
        ``torchjd.aggregation.IMTLGWeighting()`` of TorchJD.

    Example
    -------
    >>> balancer = Balancer(lambda gram: 1 / gram.diagonal().sqrt())
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

    def forward(self, losses, shared=None):
        """The weights [K] alone; otherwise as ``balance``."""
        return self.balance(losses, shared).weights

    def balance(self, losses, shared):
        """The weights of K 0-dim losses, whose graph is kept.

        Arguments
        ---------
        losses : list of torch.Tensor
            Computed from ``shared``, or ValueError.
        shared : torch.Tensor or list of torch.Tensor
            The embeddings [N, D] (each process its own rows), or the encoder's
            parameters (the same on every process).

        Returns
        -------
        Balance
        """
        gram = _shared_gram(losses, shared)
        weights = self._weigh(gram, self._values(losses))
        return Balance(weights.to(torch.get_default_dtype()), gram)

    def weights(self, gradients, losses=None):
        """The weights [K] of K given gradients of one shape; the losses'
        values are read for ``normalize="loss"`` alone."""
        weights = self._weigh(_gram(gradients), losses)
        return weights.to(torch.get_default_dtype())

    def _weigh(self, gram, values):
        return self.weighting(gram)

    def _values(self, losses):
        """What ``_weigh`` wants to know of them."""


class FixedBalancer(Balancer):
    """Constant weights: the baseline of every balancing method.

    Arguments
    ---------
    weights : list of float
        One non-negative weight per objective; they are divided by their sum.

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
        self.constant = weights / weights.sum()

    def balance(self, losses, shared=None):
        """The constant weights; no gradient is found for them."""
        _check_numbers(losses)
        if len(losses) != len(self.constant):
            raise ValueError(
                f"{len(losses)} losses, but {len(self.constant)} weights"
            )
        self.constant = self.constant.to(losses[0].device)  # once
        return Balance(self.constant, None)

    def _weigh(self, gram, values):
        return self.constant


class MinNormBalancer(Balancer):
    r"""Balances two objectives by the minimum norm (MGDA).

    With g_k the gradient of objective k with respect to what the objectives
    share, the weights are those of the shortest vector between g_1 and g_2::

        alpha = clip((g_2 - g_1) . g_2 / |g_1 - g_2|^2, 0, 1)
        weights = [alpha, 1 - alpha]

    (Sener and Koltun, NeurIPS 2018, arXiv 1810.04650, Eq. 4 and its
    two-objective solution). A small step against that vector lowers both
    objectives, or it is zero because no step would.

    This holds to first order, in the space of what they share. At the
    encoder's parameters it is exact MGDA. At the embedding (their MGDA-UB) it
    costs no backward pass through the encoder, and the step that the parameters
    then take may raise one objective.

    The shorter gradient gets the larger weight, so an objective with the far
    larger gradient is all but switched off. ``normalize`` finds the shortest
    vector between g_k / n_k instead, with n_k = ``|g_k|`` (``l2``) or the value
    of the loss (``loss``, its mean over the processes), and makes the weighted
    sum of the *raw* gradients point along it: alpha_k / n_k over their sum.

    Where exactly one gradient is zero (a batch without a positive pair), the
    other objective gets all the weight. Where both are zero, or something is
    not finite, both get the same.

    Arguments
    ---------
    normalize : str
        ``none``, ``l2`` or ``loss``.
    preference : list of float
        How much each objective is to count: factors of the lengths that the
        weighted gradients have, as far as no objective rises by it. [1, 1] is
        plain MGDA; with ``l2`` the lengths then are equal, and any preference
        is a fixed ratio of the lengths until the gradients conflict.

    Raises
    ------
    ValueError
        An option outside its range; when called, not two objectives.

    Example
    -------
    >>> balancer = MinNormBalancer()
    >>> balancer.weights([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])])
    tensor([0.2000, 0.8000])
    >>> z = torch.ones(2, requires_grad=True)
    >>> balancer([z.sum(), (z**2).sum()], shared=z)
    tensor([1., 0.])
    """

    def __init__(self, normalize: str = "none", preference=(1.0, 1.0)):
        super().__init__(weighting=None)
        if normalize not in _NORMALIZE:
            raise ValueError(
                f"normalize={normalize!r}: choose one of {list(_NORMALIZE)}"
            )
        if len(preference) != 2 or not all(
            0 < x < float("inf") for x in preference
        ):
            raise ValueError(
                f"preference={preference}: two numbers above 0 are needed"
            )
        self.normalize = normalize
        self.preference = tuple(map(float, preference))

    def _weigh(self, gram, values):
        if len(gram) != 2:
            raise ValueError(
                f"{len(gram)} objectives: the closed form is for two. For "
                "more, take Balancer with a weighting of TorchJD"
            )
        norm = gram.diagonal().sqrt()
        cosine = gram[0, 1] / (norm[0] * norm[1])
        # Lengths before the products of tiny and huge ones: no overflow.
        length = norm / self._units(norm, values)
        length = length / length.max()
        # alpha and 1 - alpha each from its own numerator: where one gradient
        # is 1e10 times the other, the difference to 1 would be rounded away.
        dot = cosine * length[0] * length[1]
        distance = (length.square().sum() - 2 * dot).clamp_min(0.0)
        alpha = (length.flip(0).square() - dot) / distance
        alpha = torch.where(distance > 0, alpha, 0.5).clamp(0.0, 1.0)
        # The second objective's share of what both weighted gradients add
        first, second = self.preference
        added = alpha * length
        share = second * added[1] / (first * added[0] + second * added[1])
        # No objective rises between -cosine : 1 and 1 : -cosine, where the
        # gradients conflict.
        bound = (-cosine).clamp_min(0.0)
        bound = bound / (1 + bound)
        share = share.clamp(bound, 1 - bound)
        weights = torch.stack([1 - share, share]) / norm
        weights = weights / weights.sum()

        # A zero gradient has no say; nothing to compare: no preference.
        alone = (norm.flip(0) == 0) & (norm > 0)
        weights = torch.where(alone.any(), alone.to(norm), weights)
        usable = gram.isfinite().all() & weights.isfinite().all()
        return torch.where(usable, weights, 0.5)

    def _units(self, norm, values):
        """In what each gradient is measured before they are compared."""
        if self.normalize == "l2":
            return norm
        if self.normalize == "none":
            return torch.ones_like(norm)
        if values is None:
            raise ValueError('normalize="loss" needs the losses')
        return torch.stack([torch.as_tensor(x) for x in values]).to(norm)

    def _values(self, losses):
        if self.normalize == "loss":
            values = torch.stack([loss.detach() for loss in losses])
            return all_reduce_sum(values) / world_size()


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
    if not any(part is not None for parts in gradients for part in parts):
        raise ValueError(
            "shared: no loss was computed from it; give the very tensor that "
            "went into the losses, not a copy or a view of it"
        )
    gradients = [
        torch.cat(
            [
                (torch.zeros_like(x) if part is None else part).flatten()
                for part, x in zip(parts, inputs)
            ]
        )
        for parts in gradients
    ]
    if at_parameters:
        # The processes' gradients add up before they are compared.
        return _gram([all_reduce_sum(gradient) for gradient in gradients])
    # At the embedding each process holds its own rows of one long gradient.
    return all_reduce_sum(_gram(gradients))


def _gradient(loss, inputs):
    """Its parts; None of what the loss does not depend on (no positive pair in
    the batch: of nothing)."""
    if not loss.requires_grad:
        return [None] * len(inputs)
    return torch.autograd.grad(
        loss, inputs, retain_graph=True, allow_unused=True
    )


def _gram(gradients):
    """In float64 gradients of 1e-10 to 1e10 have exact enough products."""
    rows = torch.stack([g.detach().flatten() for g in gradients]).double()
    return rows @ rows.T
