"""The margin-contrastive loss and its gradient, block by block of anchors.

The computation behind ``speechbrain_scl.losses.SupConMarginLoss``; its
equations are in ``_margin_terms``.
"""

import math
from typing import NamedTuple

import torch

from speechbrain_scl._margin_terms import negatives_of, positives_of, slopes_of

# One block of the similarity matrix: on a CPU it should stay in the cache, on
# an accelerator it should be large enough to fill it.
_BLOCK_ELEMENTS_CPU = 2**20
_BLOCK_ELEMENTS_ACCELERATOR = 2**26
# Of z_j - z_i at a time
_TURN_ELEMENTS = 2**22


class Past(NamedTuple):
    """Samples of earlier batches to meet, constants to the gradient."""

    z: torch.Tensor  # [M, D], of unit length
    labels: torch.Tensor  # [M]
    weights: torch.Tensor  # their attention then, [M]
    valid: torch.Tensor  # whether the place holds a sample, [M]
    positives: bool  # whether those of the anchor's speaker are positives


def margin_contrast(
    embeddings, weights, groups, options, scale, block=None, past=None
):
    """Sum of L_i over the anchors, scaled; it can be differentiated once.

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
    scale : float or torch.Tensor
        What the sum is multiplied by.
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
        return total * scale
    return _WithGradients.apply(scale, total, *inputs, *gradients)


class _WithGradients(torch.autograd.Function):
    """A value whose gradients are known already, scaled."""

    @staticmethod
    def forward(ctx, scale, value, embeddings, weights, *gradients):
        """The value."""
        ctx.scale = scale
        ctx.save_for_backward(embeddings, weights, *gradients)
        return value * scale

    @staticmethod
    def backward(ctx, grad_output):
        """The gradients."""
        *inputs, grad_z, grad_weights = ctx.saved_tensors
        grad_output = grad_output * ctx.scale
        gradients = [
            g if g is None else grad_output * g for g in (grad_z, grad_weights)
        ]
        if torch.is_grad_enabled():  # someone wants to go on from them
            gradients = [
                g if g is None else _DifferentiableOnce.apply(g, x)
                for g, x in zip(gradients, inputs, strict=True)
            ]
        return (None, None, *gradients, None, None)


class _DifferentiableOnce(torch.autograd.Function):
    """A gradient whose own gradient is not known."""

    @staticmethod
    def forward(ctx, gradient, of):
        """The gradient."""
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, grad_output):
        """Refuses."""
        raise RuntimeError(
            "SupConMarginLoss can be differentiated once, not twice: its "
            "gradient is computed with it, as a constant"
        )


def _sum_and_gradients(
    embeddings, weights, groups, options, block, past, wants_z, wants_weights
):
    z, length = _unit(embeddings.index_select(0, groups.order))
    batch = len(z)
    if weights is not None:
        # A weight of 0 counts as the least above it: no logarithm of zero.
        weights = weights.index_select(0, groups.order)
        weights.clamp_min_(torch.finfo(z.dtype).tiny)
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
    own_pairs = OwnPairs(z, groups)
    total = None
    grad_z = torch.zeros_like(z) if wants_z else None
    grad_weights = torch.zeros_like(weights) if wants_weights else None

    for rows in _blocks(anchors, block or _block_rows(met)):
        columns = Columns(rows, own_pairs, groups, past)
        of_anchors = _rows_of(z, rows)
        of_pairs = None
        if weights is not None:
            of_pairs = torch.minimum(
                _rows_of(attention[:batch], rows)[:, None], attention
            )
        value, slopes, pairs = _block_loss(
            of_anchors, met, of_pairs, columns, options, wants_weights
        )
        total = value if total is None else total + value
        if wants_z and rows.shape[0] == met.shape[0]:
            # cos_ij = z_i . z_j, so both ends receive.
            grad_z = (slopes + slopes.T) @ z
        elif wants_z:
            grad_z.index_add_(0, rows, slopes @ met)
            grad_z.addmm_(slopes[:, :batch].T, of_anchors)
        if wants_weights:
            # min(a_i, a_j): the smaller one receives, equal ones share.
            of_anchors = _rows_of(weights, rows)[:, None]
            to_anchor = 0.5 * (
                (of_anchors < met_weights).to(z.dtype)
                + (of_anchors <= met_weights).to(z.dtype)
            )
            grad_weights.index_add_(0, rows, (pairs * to_anchor).sum(1))
            grad_weights += (pairs * (1 - to_anchor))[:, :batch].sum(0)

    if wants_z:
        own_pairs.add_gradient(grad_z)
        # Only what turns the unit vector reaches the embedding.
        grad_z.addcmul_(z, (z * grad_z).sum(1, keepdim=True), value=-1.0)
        for factor in length:
            grad_z /= factor
    if total is None:  # no anchor is of this process
        total = z.new_zeros(())
    unsorted = (
        g if g is None else torch.empty_like(g).index_copy_(0, groups.order, g)
        for g in (grad_z, grad_weights)
    )
    return total, *unsorted


def _block_loss(anchors, met, attention, columns, options, wants_pairs):
    """L of a block of anchors, its slopes in the cosines and in A_ia.

    The slopes of the pairs of one speaker are left with those pairs.

    Shapes: logits, attention and the slopes [rows, B + M]; what concerns the
    anchor's own speaker [rows, widest - 1 (+ M)]. As few passes over the large
    matrix as possible, in place; everything else happens on the small ones, in
    the log domain.
    """
    logits = (anchors / options.temperature) @ met.T
    cos, sin = columns.own_angles(logits, options.temperature)
    own_attention = None
    if attention is not None and options.attention_on == "logits":
        own_attention = columns.own(attention)
    negatives = negatives_of(logits, attention, columns, options, wants_pairs)
    positives = positives_of(
        cos, sin, own_attention, columns.no_pair, negatives.log_sum, options
    )
    columns.drop_alone(positives)
    slopes, pairs = slopes_of(
        negatives, attention, positives.log_d, options, wants_pairs
    )
    columns.keep_slopes(slopes, positives.slopes)
    if wants_pairs and positives.pairs is not None:
        columns.put_own(pairs, positives.pairs)
    return positives.losses.sum(), slopes, pairs


class OwnPairs:
    """The pairs of one speaker: each sample with the others of its speaker.

    A speaker with fewer samples than the widest has the sample itself among
    them, which is never its own pair: [B, widest - 1].

    Angle and gradient come from z_j - z_i, entry by entry: no close pair loses
    its angle in rounding, and none in the TF32 in which a GPU may multiply
    matrices.
    """

    def __init__(self, z, groups):
        self.z, self.groups = z, groups
        self.others = groups.own[:, 1:]
        # Parts that bound the memory; one, of a batch of usual size
        step = max(
            1, _TURN_ELEMENTS // max(1, self.others.shape[1] * z.shape[1])
        )
        self.parts = [
            slice(first, first + step)
            for first in range(0, max(len(z), 1), step)
        ]
        lengths = []
        for part in self.parts:
            turns = self._turns(part)
            lengths.append(torch.linalg.vector_norm(turns, dim=2))
        only = len(self.parts) == 1
        self.only_turns = turns if only else None
        lengths = lengths[0] if only else torch.cat(lengths)
        # |z_j - z_i|^2 = 2 (1 - cos), at most 4
        self.squares = lengths.square_().clamp_max_(4.0)
        self.slopes = None

    def _turns(self, part):
        """z_j - z_i, [rows, widest - 1, D]."""
        others = self.others[part]
        turns = self.z.index_select(0, others.flatten())
        turns = turns.view(*others.shape, self.z.shape[1])
        return turns.sub_(self.z[part, None])

    def keep_slopes(self, rows, slopes):
        """Takes the slopes of the loss in cos of these anchors' pairs."""
        if rows.shape[0] == self.z.shape[0]:
            self.slopes = slopes
            return
        if self.slopes is None:
            self.slopes = torch.zeros_like(self.squares)
        self.slopes.index_copy_(0, rows, slopes)

    def add_gradient(self, grad_z):
        """Adds what these pairs add.

        d cos_ij / d z_i = z_j, or, as only what turns z_i counts, z_j - z_i.
        """
        if self.slopes is None:
            return
        # Both ends receive: s_ij + s_ji.
        slopes = self.slopes + self.slopes.take(self.groups.mirror)
        for part in self.parts:
            turns = self.only_turns
            if turns is None:
                turns = self._turns(part)
            grad, columns = grad_z[part], slopes[part, :, None].unbind(1)
            for turn, slope in zip(turns.unbind(1), columns, strict=True):
                grad.addcmul_(turn, slope)


class Columns:
    """Which of the samples that the anchors meet are of their own speaker.

    Those of the batch are known: column numbers, [rows, widest] with the
    anchor in front. The past is not sorted: [rows, M] of yes and no.
    """

    def __init__(self, rows, pairs, groups, past):
        self.rows, self.pairs = rows, pairs
        self.columns = _rows_of(groups.own, rows)
        self.no_pair = _rows_of(groups.no_pair, rows)
        self.past = None
        if past is not None:
            same = groups.labels[rows, None] == past.labels
            self.batch = len(groups.labels)
            self.past = past
            self.hidden_past = same | ~past.valid
            if past.positives:
                same &= past.valid
                self.no_pair = torch.cat([self.no_pair, ~same], 1)

    def own(self, matrix):
        """The entries of the own speaker, and of all the past."""
        found = matrix.gather(1, self.columns[:, 1:])
        if self.past is not None and self.past.positives:
            found = torch.cat([found, matrix[:, self.batch :]], 1)
        return found

    def own_angles(self, logits, temperature):
        """Cosine and sine of the pairs of ``own``."""
        square = _rows_of(self.pairs.squares, self.rows)
        cos = torch.rsub(square, 1.0, alpha=0.5)
        sin = torch.rsub(square, 1.0, alpha=0.25).mul_(square).sqrt_()
        if self.past is not None and self.past.positives:
            past = (logits[:, self.batch :] * temperature).clamp_(-1.0, 1.0)
            # The rounding of a product of matrices hides smaller angles.
            floor = 2.0 * math.sqrt(torch.finfo(past.dtype).eps)
            past_sin = ((1.0 - past) * (1.0 + past)).sqrt_().clamp_min_(floor)
            cos, sin = torch.cat([cos, past], 1), torch.cat([sin, past_sin], 1)
        return cos, sin

    def keep_slopes(self, slopes, values):
        """The slopes of the pairs of ``own`` where they belong."""
        width = self.columns.shape[1] - 1
        self.pairs.keep_slopes(self.rows, values[:, :width])
        if self.past is not None and self.past.positives:
            slopes[:, self.batch :] += values[:, width:]

    def put_own(self, matrix, values):
        """Adds to those entries, which are 0 where the values are not."""
        width = self.columns.shape[1] - 1
        matrix.scatter_(1, self.columns[:, 1:], values[:, :width])
        if self.past is not None and self.past.positives:
            matrix[:, self.batch :] += values[:, width:]

    def drop_alone(self, positives):
        """An anchor whose positives are all in the past may have none."""
        if self.past is not None and self.past.positives:
            alone = self.no_pair.all(1, keepdim=True)
            positives.log_d.masked_fill_(alone, math.inf)
            for part in (positives.losses, positives.slopes, positives.pairs):
                if part is not None:
                    part.masked_fill_(alone, 0.0)

    def hide(self, logits):
        """Leaves the negatives only: no own speaker, and no empty place."""
        logits.scatter_(1, self.columns, -math.inf)
        if self.past is not None:
            logits[:, self.batch :].masked_fill_(self.hidden_past, -math.inf)


def _rows_of(matrix, rows):
    """Those rows; as they are in order, all are the matrix itself."""
    return matrix if rows.shape[0] == matrix.shape[0] else matrix[rows]


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


def _blocks(anchors, rows):
    """None of no anchors: ``split`` alone gives an empty one."""
    return anchors.split(rows) if len(anchors) else ()


def _block_rows(met):
    on_cpu = met.device.type == "cpu"
    elements = _BLOCK_ELEMENTS_CPU if on_cpu else _BLOCK_ELEMENTS_ACCELERATOR
    return max(1, elements // met.shape[0])
