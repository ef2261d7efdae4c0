"""Weights that balance two losses by their gradients.

Authors
 * The speechbrain_scl contributors 2026
"""

import torch
import torch.distributed

from speechbrain.utils.distributed import ddp_all_reduce


class MinNormBalancer(torch.nn.Module):
    """Minimum-norm weights of two losses, found at what the losses share.

    With g_1 and g_2 the gradients of the losses with respect to the embedding,
    MGDA (Sener and Koltun, "Multi-task learning as multi-objective
    optimization", NeurIPS 2018, https://arxiv.org/abs/1810.04650, there
    MGDA-UB) weighs them so that their sum is the shortest vector between::

        w = clip((g_2 - g_1) . g_2 / |g_1 - g_2|^2, 0, 1)
        weights = [w, 1 - w]

    Minus that sum lowers both losses, at the price of two short backward
    passes and none through the encoder. The shorter gradient gets the larger
    weight; a loss with the far longer one would be all but switched off, so
    that the gradients can be compared at length one (``normalize="l2"``).

    Under DDP the dot products are summed over the processes, so that every
    process finds the same weights. Where one gradient is zero, as in a batch
    without a positive pair, the other loss gets all the weight.

    Arguments
    ---------
    normalize : str
        "l2" finds the shortest vector between g_k / |g_k|. It then is the one
        halfway, so that both weighted gradients have the same length. "none"
        is as written.
    preference : list of float
        Factors of the lengths of the weighted gradients, above 0. They act as
        far as no loss would rise.

    Example
    -------
    >>> embeddings = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> losses = [2 * embeddings[0], embeddings[1]]
    >>> MinNormBalancer(normalize="none")(losses, embeddings)
    tensor([0.2000, 0.8000])
    >>> MinNormBalancer(normalize="l2")(losses, embeddings)
    tensor([0.3333, 0.6667])
    """

    def __init__(self, normalize="l2", preference=(1.0, 1.0)):
        super().__init__()
        if len(preference) != 2 or not all(p > 0 for p in preference):
            raise ValueError(f"preference={preference}: two numbers above 0")
        if normalize not in ("none", "l2"):
            raise ValueError(f"normalize={normalize!r}: none or l2")
        self.normalize = normalize
        self.preference = preference

    def forward(self, losses, shared):
        """Returns the weights; the losses' graph is kept.

        Arguments
        ---------
        losses : list of torch.Tensor
            Two numbers.
        shared : torch.Tensor
            What they were computed from: the embeddings. Under DDP each
            process has its own rows.

        Returns
        -------
        weights : torch.Tensor
            [2], with sum 1, not below 0 and without a gradient.
        """
        gradients = torch.stack(
            [
                torch.autograd.grad(loss, shared, retain_graph=True)[0]
                .flatten()
                .double()
                for loss in losses
            ]
        )
        gram = ddp_all_reduce(
            gradients @ gradients.T, torch.distributed.ReduceOp.SUM
        )
        norm = gram.diagonal().sqrt()
        if not gram.isfinite().all() or not norm.any():
            return torch.full([2], 0.5, device=shared.device)
        if not norm.all():
            return (norm > 0).float()
        cosine = gram[0, 1] / norm.prod()

        length = norm / norm.max()
        if self.normalize == "l2":
            length = torch.ones_like(norm)
        dot = cosine * length.prod()
        distance = length.square().sum() - 2.0 * dot
        weights = torch.where(
            distance > 0, (length.flip(0).square() - dot) / distance, 0.5
        )

        # What each adds to the direction, as preferred. No loss rises while
        # the ratio is between -cosine and its inverse.
        added = (
            weights.clamp(0.0, 1.0) * length * norm.new_tensor(self.preference)
        )
        conflict = (-cosine).clamp(0.0, 1.0)
        least = conflict / (1.0 + conflict)
        share = (added[1] / added.sum()).clamp(least, 1.0 - least)
        weights = torch.stack([1.0 - share, share]) / norm
        return (weights / weights.sum()).float()
