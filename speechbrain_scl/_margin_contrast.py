"""The margin-contrastive loss and its gradient, block by block of anchors.

The computation behind ``speechbrain_scl.losses.SupConMarginLoss``; its
equations are in ``_margin_terms``.
"""

import math
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from speechbrain_scl._margin_terms import negatives_of, positives_of, slopes_of

# One block of the similarity matrix: on a CPU it should stay in the cache, on
# an accelerator it should be large enough to fill it.
_BLOCK_ELEMENTS_CPU = 2**20
_BLOCK_ELEMENTS_ACCELERATOR = 2**26


class Past(NamedTuple):
    """Samples of earlier batches to meet, constants to the gradient."""

    z: torch.Tensor  # [M, D], of unit length
    labels: torch.Tensor  # [M]
    weights: torch.Tensor  # their attention then, [M]
    valid: torch.Tensor  # whether the place holds a sample, [M]
    positives: bool  # whether those of the anchor's speaker are positives


def margin_contrast(
    embeddings, weights, groups, options, block=None, past=None
):
    """Sum of L_i over the anchors; it can be differentiated once.

    Arguments
    ---------
    embeddings : torch.Tensor
        [B, D], any scale, float32 or float64.
    weights : torch.Tensor or None
        The attention a_i, [B].
    groups : SpeakerGroups
        Who speaks where.
    options : Options
        The options.
    block : int or None
        Anchors per block.
    past : Past or None
        More samples to meet.

    Returns
    -------
    torch.Tensor
        0-dim.
    """
    inputs = (embeddings, weights)
    wants = [
        x is not None and x.requires_grad and torch.is_grad_enabled()
        for x in inputs
    ]
    with torch.no_grad():
        total, *gradients = _sum_and_gradients(
            *inputs, groups, options, block, past, *wants
        )
    if not any(wants):
        return total
    return _WithGradients.apply(total, *inputs, *gradients)


class _WithGradients(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx, value, embeddings, weights, *gradients):
        """The value."""
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """The gradients, scaled."""
        gradients = [
            g if g is None else grad_output * g for g in ctx.saved_tensors
        ]
        return (None, *gradients, None, None)


def _sum_and_gradients(
    embeddings, weights, groups, options, block, past, wants_z, wants_weights
):
    z, length = _unit(embeddings[groups.order])
    batch = len(z)
    if weights is not None:
        # A weight of 0 counts as the least above it: no logarithm of zero.
        weights = weights[groups.order].clamp_min(torch.finfo(z.dtype).tiny)
    # Whom an anchor meets: the batch, then the past.
    met, met_weights, anchors = z, weights, groups.anchors
    if past is not None:
        met = torch.cat([z, past.z.to(z.dtype)])
        if weights is not None:
            met_weights = torch.cat([weights, past.weights.to(z.dtype)])
        if past.positives:
            anchors = groups.local
    # As a factor of a logit, or what is added to it.
    attention = met_weights
    if weights is not None and options.attention_on == "negatives":
        attention = met_weights.log()
    total = z.new_zeros(())
    grad_z = torch.zeros_like(z) if wants_z else None
    grad_weights = torch.zeros_like(weights) if wants_weights else None

    for rows in anchors.split(block or _block_rows(met)):
        columns = Columns(rows, groups, past)
        of_pairs = None
        if weights is not None:
            of_pairs = torch.minimum(attention[rows, None], attention)
        own = z[rows]
        value, slopes, pairs = _block_loss(
            own, met, of_pairs, columns, options, wants_weights
        )
        total += value
        if wants_z:
            # cos_ij = z_i . z_j, so both ends receive.
            grad_z.index_add_(0, rows, slopes @ met)
            grad_z.addmm_(slopes[:, :batch].T, own)
        if wants_weights:
            # min(a_i, a_j): the smaller one receives, equal ones share.
            to_anchor = 0.5 * (
                (weights[rows, None] < met_weights).to(z.dtype)
                + (weights[rows, None] <= met_weights).to(z.dtype)
            )
            grad_weights.index_add_(0, rows, (pairs * to_anchor).sum(1))
            grad_weights += (pairs * (1 - to_anchor))[:, :batch].sum(0)

    if wants_z:
        # Only what turns the unit vector reaches the embedding.
        grad_z -= z * (z * grad_z).sum(1, keepdim=True)
        for factor in length:
            grad_z /= factor
    unsorted = (
        g if g is None else torch.empty_like(g).index_copy_(0, groups.order, g)
        for g in (grad_z, grad_weights)
    )
    return total, *unsorted


def _block_loss(anchors, met, attention, columns, options, wants_pairs):
    """L of a block of anchors, its slopes in the cosines and in A_ia.

    Shapes: logits, attention and the slopes [rows, B + M]; what concerns the
    anchor's own speaker [rows, width (+ M)]. As few passes over the large
    matrix as possible, in place; everything else happens on the small ones, in
    the log domain.
    """
    logits = (anchors / options.temperature) @ met.T
    cos = columns.own(logits).mul_(options.temperature).clamp_(-1.0, 1.0)
    sin = ((1.0 - cos) * (1.0 + cos)).sqrt_()
    own_attention = None if attention is None else columns.own(attention)
    negatives = negatives_of(logits, attention, columns, options, wants_pairs)
    positives = positives_of(
        cos, sin, own_attention, columns.no_pair, negatives.log_sum, options
    )
    columns.drop_alone(positives)
    slopes, pairs = slopes_of(
        negatives, attention, positives.log_inverse_d, options, wants_pairs
    )
    columns.put_own(slopes, positives.slopes)
    if wants_pairs:
        columns.put_own(pairs, positives.pairs)
    return positives.losses.sum(), slopes, pairs


class Columns:
    """Which of the samples that the anchors meet are of their own speaker.

    Those of the batch are neighbours, as it is sorted: [rows, width] column
    numbers. A class smaller than the widest is padded with the anchor itself,
    which is never its own pair. The past is not sorted: [rows, M] of yes and
    no.
    """

    def __init__(self, rows, groups, past):
        rows = rows[:, None]
        width = torch.arange(groups.widest, device=rows.device)
        inside = width < groups.size[rows]
        self.columns = (groups.start[rows] + width).where(inside, rows)
        self.no_pair = self.columns == rows
        self.past = None
        if past is not None:
            same = groups.labels[rows] == past.labels
            self.batch = len(groups.labels)
            self.past = past
            self.hidden_past = same | ~past.valid
            if past.positives:
                same &= past.valid
                self.no_pair = torch.cat([self.no_pair, ~same], 1)

    def own(self, matrix):
        """The entries of the own speaker, and of all the past."""
        found = matrix.gather(1, self.columns)
        if self.past is not None and self.past.positives:
            found = torch.cat([found, matrix[:, self.batch :]], 1)
        return found

    def put_own(self, matrix, values):
        """Adds to those entries, which are 0 where the values are not."""
        width = self.columns.shape[1]
        matrix.scatter_(1, self.columns, values[:, :width])
        if self.past is not None and self.past.positives:
            matrix[:, self.batch :] += values[:, width:]

    def drop_alone(self, positives):
        """An anchor whose positives are all in the past may have none."""
        if self.past is not None and self.past.positives:
            alone = self.no_pair.all(1, keepdim=True)
            positives.log_inverse_d.masked_fill_(alone, -math.inf)
            for part in (positives.losses, positives.slopes, positives.pairs):
                part.masked_fill_(alone, 0.0)

    def hide(self, logits):
        """Leaves the negatives only: no own speaker, and no empty place."""
        logits.scatter_(1, self.columns, -math.inf)
        if self.past is not None:
            logits[:, self.batch :].masked_fill_(self.hidden_past, -math.inf)


def _unit(x):
    """Rows of length one, and their lengths as two factors.

    A row is first divided by its largest entry, so that no scale overflows or
    vanishes in the square. A zero row stays zero.
    """
    largest = x.abs().amax(1, keepdim=True)
    largest.masked_fill_(largest == 0, 1.0)
    x = x / largest
    # One at least, but for the zero row.
    rest = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(0.5)
    return x / rest, (rest, largest)


def _block_rows(met):
    on_cpu = met.device.type == "cpu"
    elements = _BLOCK_ELEMENTS_CPU if on_cpu else _BLOCK_ELEMENTS_ACCELERATOR
    return max(1, elements // met.shape[0])
