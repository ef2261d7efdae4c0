"""The margin-contrastive loss and its gradient, block by block of anchors.

The computation behind ``speechbrain_scl.losses.SupConMarginLoss``, which holds
the equations.
"""

import math

import torch
from torch.autograd.function import once_differentiable

# One block of the similarity matrix: on a CPU it should stay in the cache, on
# an accelerator it should be large enough to fill it.
_BLOCK_ELEMENTS_CPU = 2**20
_BLOCK_ELEMENTS_ACCELERATOR = 2**26


class MarginContrast(torch.autograd.Function):
    """Sum of L_i over the anchors, with the gradient found on the way.

    Arguments
    ---------
    embeddings : torch.Tensor
        [B, D], any scale, float32 or float64.
    weights : torch.Tensor or None
        The attention a_i, [B].
    order : torch.Tensor
        [B], the samples sorted by speaker. What follows counts in this order.
    anchors : torch.Tensor
        The samples whose L_i to sum; each has a positive.
    start, size : torch.Tensor
        [B], the samples of sample i's speaker are start[i] ... start[i] +
        size[i] - 1.
    options : SupConMarginLoss
        The options.
    """

    @staticmethod
    def forward(ctx, embeddings, weights, order, anchors, start, size, options):
        """The loss; its gradient is found on the way, block by block."""
        wants_z, wants_weights = ctx.needs_input_grad[:2]
        z, length = _unit(embeddings[order])
        weights = None if weights is None else weights[order]
        block = options.chunk_size or _block_rows(z)
        width = torch.arange(int(size.max()), device=z.device)
        total = z.new_zeros(())
        grad_z = torch.zeros_like(z) if wants_z else None
        grad_weights = torch.zeros_like(weights) if wants_weights else None

        for rows in anchors.split(block):
            # The columns of the anchor's own speaker, [rows, width]. A class
            # smaller than the widest is padded with the anchor itself, which
            # is never its own pair.
            columns = start[rows, None] + width
            columns = columns.where(width < size[rows, None], rows[:, None])
            value, grad_cos, grad_pairs = _block_loss(
                z, weights, rows, columns, options, wants_weights
            )
            total += value
            if wants_z:
                # cos_ij = z_i . z_j, so both ends receive.
                grad_z.index_add_(0, rows, grad_cos @ z)
                grad_z.addmm_(grad_cos.T, z[rows])
            if wants_weights:
                # min(a_i, a_j): the smaller one receives, equal ones share.
                to_anchor = 0.5 * (
                    (weights[rows, None] < weights).to(z.dtype)
                    + (weights[rows, None] <= weights).to(z.dtype)
                )
                grad_weights.index_add_(
                    0, rows, (grad_pairs * to_anchor).sum(1)
                )
                grad_weights += (grad_pairs * (1 - to_anchor)).sum(0)

        if wants_z:
            # Only what turns the unit vector reaches the embedding.
            grad_z -= z * (z * grad_z).sum(1, keepdim=True)
            for factor in length:
                grad_z /= factor
        unsort = [
            g if g is None else torch.empty_like(g).index_copy_(0, order, g)
            for g in (grad_z, grad_weights)
        ]
        ctx.save_for_backward(*unsort)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        """The gradients that ``forward`` left, scaled."""
        gradients = [
            g if g is None else grad_output * g for g in ctx.saved_tensors
        ]
        return (*gradients, None, None, None, None, None)


def _block_loss(z, weights, rows, columns, options, wants_weights):
    """Loss of a block of anchors and its slope in each cosine and pair weight.

    Shapes: logits and the slopes [rows, B]; what concerns the anchor's own
    speaker [rows, width]. As few passes over the large matrix as possible, in
    place; everything else happens on the small ones, in the log domain.
    """
    tau = options.temperature
    # 1 / |P(i)| at each positive of anchor i, 0 at the padding.
    no_pair = columns == rows[:, None]
    share = no_pair.logical_not().to(z.dtype)
    share /= share.sum(1, keepdim=True)

    on_logits = weights is not None and options.attention_on == "logits"
    logits = (z[rows] / tau) @ z.T
    cos = (logits.gather(1, columns) * tau).clamp_(-1.0, 1.0)
    cos_margin, slope_margin = _add_margin(cos, options)
    plain, margined = cos / tau, cos_margin / tau

    pair_weight, raw_logits = None, None
    if on_logits:
        pair_weight = torch.minimum(weights[rows, None], weights)
        own_weight = pair_weight.gather(1, columns)
        plain, margined = plain * own_weight, margined * own_weight
        raw_logits = logits.clone() if wants_weights else None
        logits.mul_(pair_weight)
    elif weights is not None:
        log_weights = weights.log()
        logits.add_(torch.minimum(log_weights[rows, None], log_weights))

    # Negatives: log sum exp, leaving exp(logit - top) in the large matrix.
    logits.scatter_(1, columns, -math.inf)
    top = logits.amax(1, keepdim=True)
    # An anchor without a negative: -inf - -inf would be NaN.
    top.clamp_min_(torch.finfo(top.dtype).min)
    exps = logits.sub_(top).exp_()
    negatives = exps.sum(1, keepdim=True).log_().add_(top)

    # Positives, and the slopes of sum_p (log D_ip - margined_ip) / |P(i)|.
    plain.masked_fill_(no_pair, -math.inf)
    value = -(margined * share).sum()
    if options.margin_in_denominator == "positive":
        others = _logsumexp_of_others(plain)
        margined.masked_fill_(no_pair, -math.inf)
        log_d = negatives.logaddexp(others).logaddexp(margined)
        inverse_d = (-log_d).masked_fill_(no_pair, -math.inf)
        grad_margined = (margined - log_d).exp_() * share
        grad_plain = (plain + _logsumexp_of_others(inverse_d)).exp_()
        grad_plain *= share.amax(1, keepdim=True)
        mean_inverse_d = (inverse_d + share.log()).logsumexp(1, keepdim=True)
        value += (log_d * share).sum()
    else:
        in_all = options.margin_in_denominator == "all_positives"
        inside = margined.masked_fill_(no_pair, -math.inf) if in_all else plain
        log_d = negatives.logaddexp(inside.logsumexp(1, keepdim=True))
        grad_inside = inside.sub_(log_d).exp_()
        grad_plain, grad_margined = (
            (0.0, grad_inside) if in_all else (grad_inside, 0.0)
        )
        mean_inverse_d = -log_d
        value += log_d.sum()
    grad_margined = grad_margined - share
    grad_own = (grad_plain + grad_margined * slope_margin) / tau
    if on_logits:
        grad_own *= own_weight

    # d value / d logit of each negative, then d value / d cosine.
    slopes = exps.mul_((top + mean_inverse_d).exp_())
    grad_pairs = None
    if wants_weights:
        if on_logits:
            grad_pairs = slopes * raw_logits
            own = (grad_plain * cos + grad_margined * cos_margin) / tau
        else:
            grad_pairs = slopes / torch.minimum(weights[rows, None], weights)
            own = torch.zeros_like(cos)
        grad_pairs.scatter_(1, columns, own)
    if on_logits:
        slopes.mul_(pair_weight)
    slopes.mul_(1.0 / tau).scatter_(1, columns, grad_own)
    return value, slopes, grad_pairs


def _add_margin(cos, options):
    """cos(theta + m), monotone over the whole circle, and its slope in cos.

    The slope holds cos / sin(theta), infinite at theta = 0; what reaches the
    embedding is that times sin(theta), so a floor under the sine at the
    rounding of 1 - cos^2 bounds it without touching any other angle.
    """
    if options.margin_type == "cosine":
        return cos - options.margin, torch.ones_like(cos)
    cos_m, sin_m = math.cos(options.margin), math.sin(options.margin)
    sin = ((1.0 - cos) * (1.0 + cos)).sqrt_()
    margined = (cos * cos_m).sub_(sin, alpha=sin_m)
    floor = 2.0 * math.sqrt(torch.finfo(cos.dtype).eps)
    slope = (cos / sin.clamp_min_(floor)).mul_(sin_m).add_(cos_m)
    past_pi = cos < -cos_m
    margined = torch.where(past_pi, cos + (cos_m - 1.0), margined)
    return margined, slope.masked_fill_(past_pi, 1.0)


def _logsumexp_of_others(x):
    """log sum_{q != p} exp(x_q) along dim 1, without cancellation.

    Sums from the left and from the right meet around the one left out.
    """
    none = torch.full_like(x[:, :1], -math.inf)
    left = torch.cat([none, x[:, :-1]], 1).logcumsumexp(1)
    right = torch.cat([none, x.flip(1)[:, :-1]], 1).logcumsumexp(1).flip(1)
    return left.logaddexp(right)


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


def _block_rows(z):
    on_cpu = z.device.type == "cpu"
    elements = _BLOCK_ELEMENTS_CPU if on_cpu else _BLOCK_ELEMENTS_ACCELERATOR
    return max(1, elements // z.shape[0])
