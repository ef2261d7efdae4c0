"""Supervised contrastive loss with an additive margin in angular space."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from speechbrain_scl.distributed import gather_rows, world_size

_CHOICES = {
    "margin_type": ("angular", "cosine"),
    "margin_in_denominator": ("none", "positive", "all_positives"),
    "attention_on": ("negatives", "logits"),
}
# Entries of a block of the similarity matrix (on a CPU they stay in the cache,
# an accelerator they should fill), and of the differences z_p - z_i
_BLOCK_CPU, _BLOCK_ACCELERATOR, _BLOCK_POSITIVES = 2**20, 2**26, 2**22
# A logit that no sum of exponentials notices. -inf would, where it is alone.
_HIDDEN = -1e30


class SupConMarginLoss(torch.nn.Module):
    r"""Supervised contrastive loss with an additive angular margin.

    With theta_ij the angle between the embeddings of samples i and j, P(i) the
    other samples of i's speaker and A(i) all samples but i, the loss of anchor
    i is, with ``margin_in_denominator="none"`` and no attention::

        L_i = -1/|P(i)| sum_{p in P(i)} log
              exp(cos(theta_ip + m) / tau) / sum_{a in A(i)} exp(cos(theta_ia) / tau)

    and the result is its mean over the anchors that have a positive. With
    m = 0 it is L_out of Khosla et al. (NeurIPS 2020, arXiv 2004.11362, Eq. 2);
    the margin and the attention follow Li, Mak and Meng (ICASSP 2023,
    arXiv 2210.16622).

    Where theta + m exceeds pi, the margined cosine goes on as
    cos(theta) + cos(m) - 1: monotone in theta and in m over the whole circle,
    without ArcFace's jump.

    The attention a_i (``sample_weights``) weighs a pair by
    A_ij = min(a_i, a_j): on ``negatives`` as a factor of
    exp(cos(theta_ia) / tau) in the denominator, on ``logits`` as a factor of
    every cosine, the positives' (after their margin) included.

    The loss and its gradient are computed together, block of anchors by block
    of anchors, in float32 (float64 for float64 input) whatever the autocast
    state; so it can be differentiated once.

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
        chosen = margin_type, margin_in_denominator, attention_on
        for (name, choices), value in zip(_CHOICES.items(), chosen):
            if value not in choices:
                raise ValueError(
                    f"{name}={value!r}: choose one of {list(choices)}"
                )
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

    @torch.compiler.disable
    def forward(self, embeddings, labels, sample_weights=None):
        """The mean loss over the anchors that have a positive.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any scale, any floating type.
        labels : torch.Tensor
            Integer speaker labels, [N] or [N, 1]. On the host, while the
            embeddings are on an accelerator, nothing waits for it (but for
            other processes' labels); on the accelerator they cost one wait.
        sample_weights : torch.Tensor or None
            The attention a_i in (0, 1], [N]. Differentiated if it requires a
            gradient. 0 counts as the least number above it.

        Returns
        -------
        torch.Tensor
            0-dim. 0 with a gradient path where no anchor has a positive.

        Raises
        ------
        ValueError
            Shapes or types that do not fit.
        """
        embeddings, labels = _check(embeddings, labels, sample_weights)
        first, n_local = 0, len(labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype != torch.float64:
                embeddings = embeddings.float()
            inputs = [embeddings]
            if sample_weights is not None:
                inputs.append(sample_weights.to(embeddings.dtype))
            if self.gather and world_size() > 1:
                labels = labels.to(embeddings.device)
                (labels, *inputs), local = gather_rows(labels, *inputs)
                first = local.start
            z, *weights = inputs
            # A weight of 0 counts as the least above it: no logarithm of zero.
            tiny = torch.finfo(z.dtype).tiny
            weights = [a.clamp_min(tiny) for a in weights]

            labels = labels.cpu().numpy()
            sizes = np.unique(labels, return_counts=True)[1]
            n_anchors = sizes[sizes > 1].sum().item()
            # DDP divides the gradients by the number of processes.
            scale = world_size() if self.gather else 1
            return _SumOfBlocks.apply(
                self._loss_of_block,
                _blocks(labels, first, n_local, z, self.chunk_size),
                scale / max(n_anchors, 1),
                torch.is_grad_enabled(),
                _unit(z),
                *weights,
            )

    def _loss_of_block(self, block, z, a=None):
        """sum of L_i over a block of anchors I::

            L_i = sum_{p in P(i)} (log D_ip - s'_ip) / |P(i)|

        with s_ia and s'_ip the logits without and with margin, and in D_ip the
        negatives' sum N_i and, as the options want them, the positives.
        """
        # [I, 1 + P]: i, and its positives, as many as anybody has; [I, P]:
        # which of them there are
        own, is_pair = block
        anchors, positives = own[:, 0], own[:, 1:].contiguous()
        z_i = z if len(own) == len(z) else z.index_select(0, anchors)
        logits = F.linear(z_i / self.temperature, z)  # s_ia, [I, N]
        # Angles of positives from z_p - z_i, [I, P, D]: no close pair loses
        # its own in the rounding, or the TF32, of a product.
        chord = _Chords.apply(z_i, z, positives).clamp_max(2.0)
        cos = 1 - chord.square() / 2
        s = cos / self.temperature
        s_margin = self._add_margin(cos, chord) / self.temperature
        if a is not None and self.attention_on == "logits":
            pairs = torch.minimum(a.index_select(0, anchors)[:, None], a)
            logits = logits * pairs
            pairs = pairs.gather(1, positives)
            s, s_margin = s * pairs, s_margin * pairs
        elif a is not None:
            log_a = a.log()
            logits += torch.minimum(
                log_a.index_select(0, anchors)[:, None], log_a
            )
        log_n = _LogSumExpWithout.apply(logits, own)
        in_all = self.margin_in_denominator == "all_positives"
        inside = s_margin if in_all else s
        inside = torch.cat([inside.masked_fill(~is_pair, _HIDDEN), log_n], 1)
        log_d = inside.logsumexp(1, keepdim=True)  # [I, 1]
        if self.margin_in_denominator == "positive":
            log_d = _logsumexp_of_others(inside, log_d)[:, :-1]  # [I, P]
            log_d = log_d.logaddexp(s_margin)
        share = is_pair / is_pair.sum(1, keepdim=True)
        return ((log_d - s_margin) * share).sum()

    def _add_margin(self, cos, chord):
        """cos(theta + m), monotone over the whole circle."""
        if self.margin_type == "cosine":
            return cos - self.margin
        cos_m, sin_m = math.cos(self.margin), math.sin(self.margin)
        # cos(theta / 2); the root's slope is infinite at 0.
        half = ((1 + cos) / 2).clamp_min(torch.finfo(cos.dtype).tiny).sqrt()
        margined = cos * cos_m - chord * half * sin_m
        return torch.where(cos < -cos_m, cos + (cos_m - 1), margined)

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        names = "margin", "temperature", *_CHOICES, "gather"
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class _SumOfBlocks(torch.autograd.Function):
    """sum_b f(b, *inputs), scaled, with its gradient: one block in memory."""

    @staticmethod
    def forward(ctx, function, blocks, scale, differentiable, *inputs):
        """The value; the gradients wait for ``backward``."""
        inputs = [
            x.detach().requires_grad_(differentiable and x.requires_grad)
            for x in inputs
        ]
        for x in inputs:
            x.grad = torch.zeros_like(x) if x.requires_grad else None
        total = inputs[0].new_zeros(())
        for block in blocks:
            with torch.set_grad_enabled(differentiable):
                value = function(block, *inputs)
            if value.requires_grad:
                value.backward()  # adds to x.grad
            total += value.detach()
        ctx.save_for_backward(*(x.grad for x in inputs))
        ctx.scale = scale
        return total * scale

    @staticmethod
    def backward(ctx, grad_output):
        """The gradients, found already."""
        # Refused the second time, also where nothing before it has a graph.
        return _scaled(ctx, grad_output.detach().requires_grad_())


@once_differentiable
def _scaled(ctx, factor):
    factor = factor * ctx.scale
    found = [None if g is None else factor * g for g in ctx.saved_tensors]
    return (None, None, None, None, *found)


class _Chords(torch.autograd.Function):
    """|z_p - z_i|, [I, P]; differences and gradient in the same memory."""

    @staticmethod
    def forward(ctx, z_i, z, positives):
        """The lengths."""
        ctx.positives, ctx.shape = positives.flatten(), z.shape
        apart = z.index_select(0, ctx.positives).view(*positives.shape, -1)
        ctx.apart = apart.sub_(z_i[:, None])
        ctx.chord = torch.linalg.vector_norm(apart, dim=2)
        return ctx.chord.clone()

    @staticmethod
    def backward(ctx, grad_output):
        """Along the differences; none where two are the same."""
        slope = grad_output / ctx.chord.masked_fill(ctx.chord == 0, 1.0)
        apart = ctx.apart.mul_(slope[:, :, None])
        grad_z = apart.new_zeros(ctx.shape)
        grad_z.index_add_(0, ctx.positives, apart.flatten(0, 1))
        return -apart.sum(1), grad_z, None


class _LogSumExpWithout(torch.autograd.Function):
    """log sum_a exp(x_ia) without some columns, [I, 1], in the memory of x."""

    @staticmethod
    def forward(ctx, x, columns):
        """The sums."""
        x = x.detach().scatter_(1, columns, _HIDDEN)
        top = x.amax(1, keepdim=True)
        ctx.exps = x.sub_(top).exp_()
        ctx.sums = ctx.exps.sum(1, keepdim=True)
        return ctx.sums.log().add_(top)

    @staticmethod
    def backward(ctx, grad_output):
        """The shares, 0 of what is left out."""
        return ctx.exps.mul_(grad_output / ctx.sums), None


def _blocks(labels, first, n_local, z, n_rows):
    """Block by block the local anchors, with whom their speakers have.

    Found on the host, from where copies go for which nobody waits.
    """
    order = np.argsort(labels, kind="stable")
    place, ordered = np.argsort(order), labels[order]
    # Of each sample's speaker: its first place in the order, its samples
    start = np.searchsorted(ordered, labels)
    size = np.searchsorted(ordered, labels, side="right") - start
    anchors = first + np.flatnonzero(size[first : first + n_local] > 1)
    turn = np.arange(size.max(initial=1))
    if n_rows is None:
        on_cpu = z.device.type == "cpu"
        n_rows = _BLOCK_CPU if on_cpu else _BLOCK_ACCELERATOR
        n_rows //= max(len(z), 1)
        n_rows = min(n_rows, _BLOCK_POSITIVES // (turn.size * z.shape[1]))
    for rows in np.split(
        anchors, range(n_rows or 1, len(anchors), n_rows or 1)
    ):
        start_i, size_i = start[rows, None], size[rows, None]
        # Round the circle of the speaker's samples, from the anchor on
        turned = (place[rows, None] - start_i + turn) % size_i
        arrays = order[start_i + turned], turn[1:] < size_i
        tensors = map(torch.from_numpy, arrays)
        if z.device.type == "cuda":
            tensors = (tensor.pin_memory() for tensor in tensors)
        if len(rows):
            yield [tensor.to(z.device, non_blocking=True) for tensor in tensors]


def _logsumexp_of_others(x, log_sum):
    """log sum_{q != p} exp(x_q) along dim 1, without cancellation."""
    top = x.argmax(1, keepdim=True)
    rest = x.scatter(1, top, _HIDDEN).logsumexp(1, keepdim=True)
    is_top = torch.zeros_like(x, dtype=torch.bool).scatter(1, top, True)
    share = (x - log_sum).exp().masked_fill(is_top, 0.0)  # at most a half
    return torch.where(is_top, rest, log_sum + torch.log1p(-share))


def _unit(x):
    """Rows of length one (zero rows stay zero), whatever their scale."""
    largest = x.detach().abs().amax(1, keepdim=True)
    largest = largest.masked_fill(largest == 0, 1.0)
    return F.normalize(x / largest, eps=0.5)


def _check(embeddings, labels, weights):
    given = [embeddings, labels] + ([] if weights is None else [weights])
    names = "embeddings", "labels", "sample_weights"
    for name, value in zip(names, given):
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{name} must be a torch.Tensor, not {type(value).__name__}"
            )
    if embeddings.dim() == 3 and embeddings.shape[1] == 1:
        embeddings = embeddings.squeeze(1)
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    rows = embeddings.shape[:1]
    if embeddings.dim() != 2 or any(
        x.shape != rows for x in (labels, *given[2:])
    ):
        raise ValueError(
            "embeddings must be [N, D] or [N, 1, D], labels [N] or [N, 1] and "
            f"sample_weights [N], not {[list(x.shape) for x in given]}"
        )
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    return embeddings, labels
