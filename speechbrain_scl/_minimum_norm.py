"""The minimum-norm weighting: the Gramian of two gradients to weights.

Public as ``speechbrain_scl.balancing.MinimumNorm``.
"""

import torch

_NORMALIZE = ("none", "l2", "loss")


class MinimumNorm:
    r"""Minimum-norm (MGDA) weights of two objectives.

    With g_k the gradient of objective k with respect to what the objectives
    share, the weights are those of the shortest vector between g_1 and g_2::

        alpha = clip((g_2 - g_1) . g_2 / |g_1 - g_2|^2, 0, 1)
        weights = [alpha, 1 - alpha]

    (Sener and Koltun, NeurIPS 2018, arXiv 1810.04650, Eq. 4 and its
    two-objective solution). A small step against that vector lowers both
    objectives, or it is zero because no step would.

    This holds in the space of what they share, and to first order. At the
    encoder's parameters it is exact MGDA. At the embedding (their MGDA-UB) it
    costs two short backward passes and none through the encoder, and the step
    that the parameters then take may raise one objective, where the encoder
    turns the two gradients apart. An optimiser that scales, averages or clips
    the gradient takes another step still.

    The shorter gradient gets the larger weight, so an objective with the far
    larger gradient is all but switched off. ``normalize`` finds the shortest
    vector between g_k / n_k instead, with n_k = ``|g_k|`` (``l2``) or n_k the
    value of the loss (``loss``), and gives the weights that make the weighted
    sum of the *raw* gradients point along it: alpha_k / n_k over their sum.
    So it stays a direction in which no objective rises, in the same sense.

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
    >>> weighting = MinimumNorm()
    >>> weighting(torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
    tensor([0.2000, 0.8000], dtype=torch.float64)
    """

    def __init__(self, normalize="none", preference=(1.0, 1.0)):
        if normalize not in _NORMALIZE:
            raise ValueError(
                f"normalize={normalize!r}: choose one of {list(_NORMALIZE)}"
            )
        self.normalize = normalize
        self.preference = preference

    @property
    def preference(self):
        """How much each objective is to count; a schedule may change it."""
        return self._preference

    @preference.setter
    def preference(self, preference):
        """Takes two numbers above 0."""
        if len(preference) != 2 or not all(
            0 < x < float("inf") for x in preference
        ):
            raise ValueError(
                f"preference={preference}: two numbers above 0 are needed"
            )
        self._preference = tuple(map(float, preference))

    def __call__(self, gram, losses=None):
        """The weights.

        Arguments
        ---------
        gram : torch.Tensor
            [2, 2] dot products of the gradients.
        losses : list of torch.Tensor or float
            The losses' values; only ``normalize="loss"`` reads them.

        Returns
        -------
        torch.Tensor
            [2], sum 1, not negative, float64.

        Raises
        ------
        ValueError
            Not two gradients, or no losses where they are needed.
        """
        if len(gram) != 2:
            raise ValueError(
                f"{len(gram)} objectives: the closed form is for two. For "
                "more, take a weighting of TorchJD (TorchJDBalancer)"
            )
        # In float64, gradients from 1e-10 to 1e10 have exact enough products;
        # dividing by the lengths before the products of tiny and huge ones.
        gram = gram.double()
        norm = gram.diagonal().sqrt()
        cosine = gram[0, 1] / (norm[0] * norm[1])
        length = norm / self._units(norm, losses)
        length = length / length.max()
        share = self._preferred_share(self._shortest(length, cosine) * length)
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

    def _units(self, norm, losses):
        """In what each gradient is measured before they are compared."""
        if self.normalize == "l2":
            return norm
        if self.normalize == "none":
            return torch.ones_like(norm)
        if losses is None:
            raise ValueError('normalize="loss" needs the losses')
        return torch.stack([torch.as_tensor(x) for x in losses]).to(norm)

    @staticmethod
    def _shortest(length, cosine):
        """[alpha, 1 - alpha], each from its own numerator: where one gradient
        is 1e10 times the other, the difference to 1 would be rounded away."""
        dot = cosine * length[0] * length[1]
        distance = (length.square().sum() - 2 * dot).clamp_min(0.0)
        weights = (length.flip(0).square() - dot) / distance
        return torch.where(distance > 0, weights, 0.5).clamp(0.0, 1.0)

    def _preferred_share(self, added):
        """Of the second objective in what both weighted gradients add."""
        first, second = self.preference
        return second * added[1] / (first * added[0] + second * added[1])
