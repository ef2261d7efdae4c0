"""Weights that balance several objectives by their gradients."""

import torch

from speechbrain_scl.distributed import all_reduce_sum, world_size

_NORMALIZE = ("none", "l2", "loss")


class FixedBalancer(torch.nn.Module):
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
        super().__init__()
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
        if len(losses) != len(self.constant):
            raise ValueError(
                f"{len(losses)} losses, but {len(self.constant)} weights"
            )
        return self.constant.to(losses[0].device)


class MinNormBalancer(torch.nn.Module):
    r"""Minimum-norm (MGDA) weights of two objectives.

    With g_k the gradient of objective k with respect to what the objectives
    share, the weights are those of the shortest vector between g_1 and g_2::

        alpha = clip((g_2 - g_1) . g_2 / |g_1 - g_2|^2, 0, 1)
        weights = [alpha, 1 - alpha]

    (Sener and Koltun, NeurIPS 2018, arXiv 1810.04650, Eq. 4 and its
    two-objective solution). Minus that vector lowers both objectives, or is
    zero where no direction does. Taken at the embedding (their MGDA-UB) it
    costs two short backward passes and none through the encoder; taken at the
    encoder's parameters it is exact MGDA.

    The shorter gradient gets the larger weight, so an objective with the far
    larger gradient is all but switched off. ``normalize`` finds the shortest
    vector between g_k / n_k instead, with n_k = ``|g_k|`` (``l2``) or n_k the
    value of the loss (``loss``), and gives the weights that make the weighted
    sum of the *raw* gradients point along it: alpha_k / n_k over their sum.
    So it stays a direction in which no objective rises.

    Only three dot products matter. Under distributed training they are summed
    over the processes, so that every process finds the same weights.

    Where exactly one gradient is zero (a batch without a positive pair), the
    shortest vector is zero and would stop the training of the other objective
    too: that one gets all the weight. Where both are zero, or something is
    not finite, both get the same.

    Arguments
    ---------
    normalize : str
        ``none``, ``l2`` or ``loss``.
    preference : list of float
        How much each objective is to count: factors of the lengths that the
        weighted gradients have, as far as no objective rises by it. [1, 1] is
        plain MGDA; with ``l2`` the lengths then are equal.

    Raises
    ------
    ValueError
        An unknown ``normalize``, or not two preferences above 0.

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
        super().__init__()
        if normalize not in _NORMALIZE:
            raise ValueError(
                f"normalize={normalize!r}: choose one of {list(_NORMALIZE)}"
            )
        self.normalize = normalize
        self.preference = preference
        self.gram = None

    @property
    def preference(self):
        """How much each objective is to count; a schedule may change it."""
        return self._preference

    @preference.setter
    def preference(self, preference):
        if len(preference) != 2 or not all(
            0 < x < float("inf") for x in preference
        ):
            raise ValueError(
                f"preference={preference}: two numbers above 0 are needed"
            )
        self._preference = tuple(map(float, preference))

    def forward(self, losses, shared):
        """The weights of losses that were computed from ``shared``.

        Arguments
        ---------
        losses : list of torch.Tensor
            Two 0-dim losses with a graph. The graph is kept.
        shared : torch.Tensor or list of torch.Tensor
            What they share: the embeddings [N, D] (each process its own rows),
            or the encoder's parameters (the same on every process).

        Returns
        -------
        torch.Tensor
            [2], sum 1, not negative, no gradient.
        """
        gram = _shared_gram(losses, shared)
        losses = [loss.detach() for loss in losses]
        if self.normalize == "loss":
            losses = list(all_reduce_sum(torch.stack(losses)) / world_size())
        return self._solve(gram, losses)

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
        if self.normalize == "loss" and losses is None:
            raise ValueError('normalize="loss" needs the losses')
        return self._solve(_gram(gradients), losses)

    def _solve(self, gram, losses):
        if len(gram) != 2:
            raise ValueError(
                f"{len(gram)} objectives: the closed form is for two. For "
                "more, take a weighting of TorchJD (TorchJDBalancer)"
            )
        # For the log: |g_1|^2, g_1 . g_2 and |g_2|^2.
        self.gram = gram
        # In float64, gradients from 1e-10 to 1e10 have exact enough products;
        # dividing by the lengths before the products of tiny and huge ones.
        norm = gram.diagonal().sqrt()
        cosine = gram[0, 1] / (norm[0] * norm[1])
        if self.normalize == "l2":
            unit = norm
        elif self.normalize == "loss":
            unit = torch.stack([torch.as_tensor(x) for x in losses]).to(norm)
        else:
            unit = torch.ones_like(norm)
        length = norm / unit
        length = length / length.max()
        dot = cosine * length[0] * length[1]
        distance = (length.square().sum() - 2 * dot).clamp_min(0.0)
        # [alpha, 1 - alpha], each from its own numerator: where one gradient
        # is 1e10 times the other, the difference to 1 would be rounded away.
        weights = (length.flip(0).square() - dot) / distance
        weights = torch.where(distance > 0, weights, 0.5).clamp(0.0, 1.0)
        # What each weighted gradient adds, as preferred, but with no objective
        # to rise: between -cosine : 1 and 1 : -cosine where they conflict.
        added = weights * length * torch.tensor(self.preference).to(norm)
        share = added[1] / added.sum()
        bound = (-cosine).clamp_min(0.0)
        bound = bound / (1 + bound)
        share = share.clamp(bound, 1 - bound)
        weights = torch.stack([1 - share, share]) / norm
        weights = weights / weights.sum()

        # A zero gradient has no say; nothing to compare: no preference.
        alone = (norm.flip(0) == 0) & (norm > 0)
        weights = torch.where(alone.any(), alone.to(norm), weights)
        usable = gram.isfinite().all() & weights.isfinite().all()
        weights = torch.where(usable, weights, 0.5)
        return weights.to(torch.get_default_dtype())

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        return f"normalize={self.normalize}, preference={self.preference}"


class TorchJDBalancer(torch.nn.Module):
    """Any other way to balance, from TorchJD.

    TorchJD separates a weighting (dot products of the gradients -> weights)
    from its use, so that each of its weightings fits here, for any number of
    objectives (https://torchjd.org, the extra ``torchjd``).

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
        super().__init__()
        self.weighting = weighting
        self.gram = None

    def forward(self, losses, shared):
        """The weights of losses that were computed from ``shared``.

        Arguments
        ---------
        losses : list of torch.Tensor
            K 0-dim losses with a graph. The graph is kept.
        shared : torch.Tensor or list of torch.Tensor
            As for ``MinNormBalancer``.

        Returns
        -------
        torch.Tensor
            [K], as the weighting gives them, no gradient.
        """
        self.gram = _shared_gram(losses, shared)
        return self.weighting(self.gram).to(torch.get_default_dtype())


def _shared_gram(losses, shared):
    """[K, K] dot products of the losses' gradients, over all processes."""
    at_parameters = not isinstance(shared, torch.Tensor)
    inputs = list(shared) if at_parameters else [shared]
    gradients = []
    for loss in losses:
        # An objective may be constant (no positive pair in the batch).
        parts = (
            torch.autograd.grad(
                loss, inputs, retain_graph=True, allow_unused=True
            )
            if loss.requires_grad
            else [None] * len(inputs)
        )
        parts = [
            (torch.zeros_like(x) if g is None else g).flatten()
            for g, x in zip(parts, inputs, strict=True)
        ]
        gradient = torch.cat(parts)
        if at_parameters:
            # The processes' gradients add up before they are compared.
            gradient = all_reduce_sum(gradient)
        gradients.append(gradient)
    gram = _gram(gradients)
    # At the embedding each process holds its own rows of one long gradient.
    return gram if at_parameters else all_reduce_sum(gram)


def _gram(gradients):
    rows = torch.stack([g.detach().flatten() for g in gradients])
    return rows.double() @ rows.double().T
