"""Supervised contrastive loss with an additive margin in angular space."""

import math

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from speechbrain_scl.distributed import gather_rows, world_size

# One block of the similarity matrix: on a CPU it should stay in the cache, on
# an accelerator it should be large enough to fill it.
_BLOCK_ELEMENTS_CPU = 2**20
_BLOCK_ELEMENTS_ACCELERATOR = 2**26

_MARGIN_TYPES = ("angular", "cosine")
_DENOMINATORS = ("none", "positive", "all_positives")
_ATTENTION_ON = ("negatives", "logits")


class SupConMarginLoss(torch.nn.Module):
    r"""Supervised contrastive loss with an additive angular margin.

    With theta_ij the angle between the embeddings of samples i and j, P(i) the
    other samples of i's speaker and A(i) all samples but i, the loss of anchor
    i is, with ``margin_in_denominator="none"`` and no attention,

        L_i = -1/|P(i)| sum_{p in P(i)} log
              exp(cos(theta_ip + m) / tau) / sum_{a in A(i)} exp(cos(theta_ia) / tau)

    and the result is its mean over the anchors that have a positive. With
    m = 0 it is L_out of Khosla et al. (NeurIPS 2020, arXiv 2004.11362, Eq. 2);
    the margin and the attention follow Li, Mak and Meng (ICASSP 2023,
    arXiv 2210.16622).

    Where theta + m exceeds pi, the margined cosine goes on as
    cos(theta) + cos(m) - 1, which meets -1 at theta = pi - m: monotone in
    theta and in m over the whole circle, without ArcFace's jump.

    The attention a_i (``sample_weights``) weighs a pair by
    A_ij = min(a_i, a_j). It acts on the ``negatives``, as a factor
    A_ia exp(cos(theta_ia) / tau) in the denominator, or on the ``logits`` of
    all pairs, A_ij cos(theta_ij) / tau, positives (after their margin)
    included.

    The loss and its gradient are computed together, block of anchors by block
    of anchors, in float32 (float64 for float64 input) whatever the autocast
    state. The result can be differentiated once.

    Arguments
    ---------
    margin : float
        m, radians in [0, pi) for ``angular``, a cosine in [0, 2) for
        ``cosine``.
    temperature : float
        tau > 0.
    margin_type : str
        ``angular``: cos(theta + m). ``cosine``: cos(theta) - m.
    margin_in_denominator : str
        Which positives carry the margin in the denominator too: ``none``, the
        current ``positive`` p (ArcCSE, ACL 2022), or ``all_positives``.
    attention_on : str
        What ``sample_weights`` act on: ``negatives`` or ``logits``.
    chunk_size : int or None
        Anchors per block; the memory is O(batch x chunk_size). None chooses
        blocks that suit the device. It changes speed and memory only.
    gather : bool
        Pair the local anchors with the samples of all processes. Under DDP,
        which averages gradients, N processes then give the gradient of the
        joined batch.

    Raises
    ------
    ValueError
        An option outside its range.

    Example
    -------
    >>> loss = SupConMarginLoss(margin=0.0, temperature=1.0)
    >>> embeddings = torch.eye(4, requires_grad=True)
    >>> value = loss(embeddings, torch.tensor([0, 0, 1, 1]))
    >>> bool(torch.isclose(value, torch.tensor(3.0).log()))  # log(B - 1)
    True
    >>> value.backward()
    >>> embeddings.grad.shape
    torch.Size([4, 4])
    """

    def __init__(
        self,
        margin=0.2,
        temperature=0.07,
        margin_type="angular",
        margin_in_denominator="none",
        attention_on="negatives",
        chunk_size=None,
        gather=False,
    ):
        super().__init__()
        _check_choice("margin_type", margin_type, _MARGIN_TYPES)
        _check_choice(
            "margin_in_denominator", margin_in_denominator, _DENOMINATORS
        )
        _check_choice("attention_on", attention_on, _ATTENTION_ON)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature={temperature}: it must be above 0")
        limit = math.pi if margin_type == "angular" else 2.0
        if not 0 <= margin < limit:
            raise ValueError(
                f"margin={margin}: an {margin_type} margin lies in "
                f"[0, {limit:.4g}) (radians if angular, not degrees)"
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size}: it must be 1 or more")
        self.margin = float(margin)
        self.temperature = float(temperature)
        self.margin_type = margin_type
        self.margin_in_denominator = margin_in_denominator
        self.attention_on = attention_on
        self.chunk_size = chunk_size
        self.gather = gather

    def forward(self, embeddings, labels, sample_weights=None):
        """The mean loss over the anchors that have a positive.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any scale, any floating type.
        labels : torch.Tensor
            Integer speaker labels, [N] or [N, 1].
        sample_weights : torch.Tensor or None
            The attention a_i in (0, 1], [N]. Differentiated if it requires a
            gradient.

        Returns
        -------
        torch.Tensor
            0-dim. 0 with a gradient path where no anchor has a positive.

        Raises
        ------
        ValueError
            Shapes or types that do not fit.
        """
        embeddings, labels = _check_batch(embeddings, labels)
        device = embeddings.device.type
        with torch.autocast(device_type=device, enabled=False):
            z = _unit(embeddings)
            weights = sample_weights
            if weights is not None:
                weights = _check_weights(weights, z)
            local = None
            if self.gather:
                rows = [z, labels] + ([] if weights is None else [weights])
                (z, labels, *weights), local = gather_rows(*rows)
                weights = weights[0] if weights else None

            # Sorted by speaker, the positives of an anchor are neighbours: no
            # B x B mask is ever needed.
            labels, order = labels.sort(stable=True)
            start = torch.searchsorted(labels, labels)
            size = torch.searchsorted(labels, labels, right=True) - start
            anchors = (size > 1).nonzero().squeeze(1)
            n_anchors = len(anchors)
            if n_anchors == 0:
                return (z * 0.0).sum()
            if local is not None:
                origin = order[anchors]
                is_local = (origin >= local.start) & (origin < local.stop)
                anchors = anchors[is_local]

            value = _MarginContrast.apply(
                z[order],
                None if weights is None else weights[order],
                anchors,
                start,
                size,
                self,
            )
            # DDP divides the gradients by the number of processes.
            scale = world_size() if self.gather else 1
            return value * (scale / n_anchors)

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        return (
            f"margin={self.margin}, temperature={self.temperature}, "
            f"margin_type={self.margin_type}, "
            f"margin_in_denominator={self.margin_in_denominator}, "
            f"attention_on={self.attention_on}, gather={self.gather}"
        )


class _MarginContrast(torch.autograd.Function):
    """Sum of L_i over the anchors, with the gradient found on the way.

    z [B, D] are unit vectors sorted by speaker; the samples of sample i's
    speaker are the rows start[i] ... start[i] + size[i] - 1.
    """

    @staticmethod
    def forward(ctx, z, weights, anchors, start, size, options):
        wants_z, wants_weights = ctx.needs_input_grad[:2]
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
            value, slopes = _block_loss(
                z, weights, rows, columns, options, wants_weights
            )
            total += value
            if wants_z:
                grad_cos, _ = slopes
                # cos_ij = z_i . z_j, so both ends receive.
                grad_z.index_add_(0, rows, grad_cos @ z)
                grad_z.addmm_(grad_cos.T, z[rows])
            if wants_weights:
                _, grad_pairs = slopes
                # min(a_i, a_j): the smaller one receives, equal ones share.
                to_anchor = 0.5 * (
                    (weights[rows, None] < weights).to(z.dtype)
                    + (weights[rows, None] <= weights).to(z.dtype)
                )
                grad_weights.index_add_(
                    0, rows, (grad_pairs * to_anchor).sum(1)
                )
                grad_weights += (grad_pairs * (1 - to_anchor)).sum(0)

        ctx.save_for_backward(grad_z, grad_weights)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        return (
            *(g if g is None else grad_output * g for g in ctx.saved_tensors),
            None,
            None,
            None,
            None,
        )


def _block_loss(z, weights, rows, columns, options, wants_weights):
    """Loss of a block of anchors and its slope in each cosine and pair weight.

    Shapes: logits and the slopes [rows, B]; what concerns the anchor's own
    speaker [rows, width]. As few passes over the large matrix as possible, in
    place; everything else happens on the small ones, in the log domain.
    """
    tau = options.temperature
    no_pair = columns == rows[:, None]
    n_pairs = columns.shape[1] - no_pair.sum(1, keepdim=True)
    on_logits = weights is not None and options.attention_on == "logits"
    logits = (z[rows] / tau) @ z.T
    cos = (logits.gather(1, columns) * tau).clamp(-1.0, 1.0)
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
    top = top.where(top != -math.inf, 0.0)  # an anchor without a negative
    shares = logits.sub_(top).exp_()
    negatives = shares.sum(1, keepdim=True).log() + top

    # Positives, and the slopes of sum_p (log D_ip - margined_ip) / |P(i)|.
    plain = plain.masked_fill(no_pair, -math.inf)
    if options.margin_in_denominator == "positive":
        others = _logsumexp_of_others(plain)
        margined_in = margined.masked_fill(no_pair, -math.inf)
        log_d = negatives.logaddexp(others).logaddexp(margined_in)
        inverse_d = -log_d.masked_fill(no_pair, math.inf)
        grad_margined = (margined_in - log_d).exp() / n_pairs
        grad_plain = (plain + _logsumexp_of_others(inverse_d)).exp() / n_pairs
        log_share = inverse_d.logsumexp(1, keepdim=True) - n_pairs.log()
        log_d = log_d.masked_fill(no_pair, 0.0).sum(1, keepdim=True) / n_pairs
    else:
        if options.margin_in_denominator == "none":
            inside = plain
        else:
            inside = margined.masked_fill(no_pair, -math.inf)
        log_d = negatives.logaddexp(inside.logsumexp(1, keepdim=True))
        grad_inside = (inside - log_d).exp()
        log_share = -log_d
        zeros = torch.zeros_like(grad_inside)
        grad_plain, grad_margined = (
            (grad_inside, zeros) if inside is plain else (zeros, grad_inside)
        )
    mean_margined = margined.masked_fill(no_pair, 0.0).sum(1, True) / n_pairs
    value = (log_d - mean_margined).sum()

    grad_margined = grad_margined - 1.0 / n_pairs
    grad_own = (grad_plain + grad_margined * slope_margin) / tau
    if on_logits:
        grad_own = grad_own * own_weight
    grad_own = grad_own.masked_fill(no_pair, 0.0)

    # d value / d logit of each negative, then d value / d cosine.
    slopes = shares.mul_((top + log_share).exp())
    grad_pairs = None
    if wants_weights:
        if on_logits:
            grad_pairs = slopes * raw_logits
            own = (grad_plain * cos + grad_margined * cos_margin) / tau
            own = own.masked_fill(no_pair, 0.0)
        else:
            grad_pairs = slopes / torch.minimum(weights[rows, None], weights)
            own = torch.zeros_like(cos)
        grad_pairs = grad_pairs.scatter(1, columns, own)
    if on_logits:
        slopes.mul_(pair_weight)
    slopes.mul_(1.0 / tau).scatter_(1, columns, grad_own)
    return value, (slopes, grad_pairs)


def _add_margin(cos, options):
    """cos(theta + m), monotone over the whole circle, and its slope in cos.

    The slope holds cos / sin(theta), infinite at theta = 0; what reaches the
    embedding is that times sin(theta), so a floor under the sine at the
    rounding of 1 - cos^2 bounds it without touching any other angle.
    """
    if options.margin_type == "cosine":
        return cos - options.margin, torch.ones_like(cos)
    cos_m, sin_m = math.cos(options.margin), math.sin(options.margin)
    sin = (1.0 - cos * cos).clamp_min(0.0).sqrt()
    floor = 2.0 * math.sqrt(torch.finfo(cos.dtype).eps)
    margined = cos * cos_m - sin * sin_m
    slope = cos_m + sin_m * cos / sin.clamp_min(floor)
    past_pi = cos < -cos_m
    margined = torch.where(past_pi, cos + cos_m - 1.0, margined)
    return margined, torch.where(past_pi, 1.0, slope)


def _logsumexp_of_others(x):
    """log sum_{q != p} exp(x_q) along dim 1, without cancellation.

    Sums from the left and from the right meet around the one left out.
    """
    none = torch.full_like(x[:, :1], -math.inf)
    left = torch.cat([none, x[:, :-1]], 1).logcumsumexp(1)
    right = torch.cat([none, x.flip(1)[:, :-1]], 1).logcumsumexp(1).flip(1)
    return left.logaddexp(right)


def _unit(embeddings):
    """Rows of length one in at least float32; a zero row stays zero.

    A row is first divided by its largest entry, so that no scale overflows or
    vanishes in the square and every length is one at least, but for the zero
    row's.
    """
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    largest = embeddings.detach().abs().amax(1, keepdim=True)
    embeddings = embeddings / largest.where(largest != 0, 1.0)
    return F.normalize(embeddings, eps=0.5)


def _block_rows(z):
    on_cpu = z.device.type == "cpu"
    elements = _BLOCK_ELEMENTS_CPU if on_cpu else _BLOCK_ELEMENTS_ACCELERATOR
    return max(1, elements // z.shape[0])


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose one of {list(choices)}")


def _check_batch(embeddings, labels):
    if embeddings.dim() == 3 and embeddings.shape[1] == 1:
        embeddings = embeddings.squeeze(1)
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if (
        embeddings.dim() != 2
        or labels.dim() != 1
        or embeddings.shape[0] != labels.shape[0]
    ):
        raise ValueError(
            "embeddings must be [N, D] or [N, 1, D] and labels [N] or [N, 1], "
            f"not {list(embeddings.shape)} and {list(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    return embeddings, labels


def _check_weights(sample_weights, z):
    if sample_weights.shape != z.shape[:1]:
        raise ValueError(
            f"sample_weights must be [N] = [{z.shape[0]}], "
            f"not {list(sample_weights.shape)}"
        )
    return sample_weights.to(z.dtype)
