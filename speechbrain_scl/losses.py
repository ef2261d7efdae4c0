"""Supervised contrastive loss with an additive margin in angular space."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from speechbrain_scl.distributed import gather_rows, world_size

_CHOICES = {
    "margin_type": ("angular", "cosine"),
    "margin_in_denominator": ("none", "positive", "all_positives"),
    "attention_on": ("negatives", "logits"),
}
# Entries of a block of the similarity matrix (on a CPU they stay in the cache,
# an accelerator they should fill), and of what there is of each positive
_BLOCK_CPU, _BLOCK_ACCELERATOR, _BLOCK_POSITIVES = 2**20, 2**26, 2**21
# A logit that no sum of exponentials notices. -inf would, where it is alone.
_HIDDEN = -1e30


class SupConMarginLoss(torch.nn.Module):
    r"""Supervised contrastive loss with an additive angular margin.

    With theta_ij the angle between the embeddings of samples i and j, P(i) the
    other samples of i's speaker and A(i) all samples but i, the loss of anchor
    i is, with ``margin_in_denominator="none"`` and no attention::

        L_i = -1/|P(i)| sum_{p in P(i)} log
              exp(cos(theta_ip + m) / tau) / sum_{a in A(i)} exp(cos(theta_ia) / tau)

    and the result is its mean over the anchors that have a positive: after Li,
    Mak and Meng (ICASSP 2023, arXiv 2210.16622), and with m = 0 L_out of Khosla
    et al. (NeurIPS 2020, arXiv 2004.11362, Eq. 2).

    Where theta + m exceeds pi, the margined cosine goes on as
    cos(theta) + cos(m) - 1: monotone, where ArcFace's jumps.

    The attention a_i (``sample_weights``) weighs a pair by
    A_ij = min(a_i, a_j): on ``negatives`` as a factor of exp(cos / tau) in the
    denominator, on ``logits`` as a factor of every cosine after its margin.

    Loss and gradient are computed together, block of anchors by block, in
    float32 (float64 for float64 input) whatever the autocast state, and once.

    Arguments
    ---------
    margin : float
        m in [0, pi), radians, for ``angular``, in [0, 2) for ``cosine``.
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
        Anchors per block, for speed and memory; None suits the device.
    gather : bool
        Pair the local anchors with the samples of all processes: DDP's mean
        of their gradients is then that of the joined batch.

    Raises
    ------
    ValueError
        An option outside its range; when called, what does not fit.

    Example
    -------
    >>> loss = SupConMarginLoss(margin=0.0, temperature=1.0)
    >>> value = loss(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> bool(torch.isclose(value, torch.tensor(3.0).log()))  # log(B - 1)
    True
    """

    def __init__(
        self,
        margin: float = 0.2,
        temperature: float = 0.07,
        margin_type: str = "angular",
        margin_in_denominator: str = "none",
        attention_on: str = "negatives",
        chunk_size=None,
        gather: bool = False,
    ):
        super().__init__()
        chosen = margin_type, margin_in_denominator, attention_on
        for (name, known), value in zip(_CHOICES.items(), chosen):
            if value not in known:
                raise ValueError(f"{name}={value!r}: choose one of {known}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature}: it must be above 0")
        if not 0 <= margin < (math.pi if margin_type == "angular" else 2):
            raise ValueError(
                f"margin={margin}: an angular margin lies in [0, pi) radians, "
                "a cosine one in [0, 2)"
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
            Integer speakers, [N] or [N, 1]; on the host, nothing waits.
        sample_weights : torch.Tensor or None
            The attention a_i in (0, 1], [N], differentiated where wanted; 0
            counts as the least number above it.

        Returns
        -------
        torch.Tensor
            0-dim. 0 with a gradient path where no anchor has a positive.
        """
        embeddings, labels = _check(embeddings, labels, sample_weights)
        local = slice(0, len(labels))
        with torch.autocast(embeddings.device.type, enabled=False):
            dtype = torch.promote_types(embeddings.dtype, torch.float32)
            inputs = [embeddings.to(dtype)]
            if sample_weights is not None:
                tiny = torch.finfo(dtype).tiny  # 0 has no logarithm
                inputs.append(sample_weights.to(inputs[0]).clamp_min(tiny))
            if self.gather and world_size() > 1:
                labels = labels.to(embeddings.device)
                (labels, *inputs), local = gather_rows(labels, *inputs)
            if not torch.is_grad_enabled():
                inputs = [x.detach() for x in inputs]
            blocks = self._blocks(labels.cpu().numpy(), local, inputs[0])
            return _SumOfBlocks.apply(self._loss_of_block, blocks, *inputs)

    def _loss_of_block(self, own, share, z, a=None):
        """sum_i sum_{p in P(i)} share_ip (log D_ip - s'_ip), of a block I.

        s_ia and s'_ip are the logits without and with margin, D_ip sums over
        the negatives and the positives as the options want them. The columns
        of ``own`` [I, 1 + P] are i, its positives, and i again where others
        have more; ``share`` [I, P] is 0 there.
        """
        anchors, positives = own[:, 0], own[:, 1:]
        z_i = z if len(own) == len(z) else z.index_select(0, anchors)
        logits = F.linear(z_i / self.temperature, z)  # s_ia, [I, N]
        # Angles of positives from z_p - z_i, [I, P, D]: no close pair loses
        # its own in the rounding, or the TF32, of a product.
        z_p = z.index_select(0, positives.flatten()).view(*share.shape, -1)
        half_chord = torch.linalg.vector_norm(z_p - z_i[:, None], dim=2) / 2
        below = 1 - torch.finfo(z.dtype).eps  # at pi the slope is infinite
        theta = 2 * half_chord.clamp_max(below).asin()
        s = theta.cos() / self.temperature
        s_margin = self._add_margin(theta) / self.temperature
        if a is not None and self.attention_on == "logits":
            pairs = torch.minimum(a.index_select(0, anchors)[:, None], a)
            logits = logits * pairs
            pairs = pairs.gather(1, positives)
            s, s_margin = s * pairs, s_margin * pairs
        elif a is not None:
            a = a.log()
            logits += torch.minimum(a.index_select(0, anchors)[:, None], a)
        if self.margin_in_denominator == "all_positives":
            s = s_margin
        s = s.masked_fill(share == 0, _HIDDEN)
        if self.margin_in_denominator != "positive":
            log_d = _LogSumExp.apply(logits, own, s)  # [I, 1]
        else:
            # Of the negatives
            log_n = _LogSumExp.apply(logits, own, torch.full_like(s, _HIDDEN))
            # [I, p, q], with the margin where q = p
            itself = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)
            s = torch.where(itself, s_margin[:, None], s[:, None])
            log_d = s.logsumexp(2).logaddexp(log_n)  # [I, P]
        return ((log_d - s_margin) * share).sum()

    def _add_margin(self, theta):
        """cos(theta + m), monotone over the whole circle."""
        if self.margin_type == "cosine":
            return theta.cos() - self.margin
        margined = (theta + self.margin).cos()
        beyond = theta.cos() + (math.cos(self.margin) - 1)
        return torch.where(theta > math.pi - self.margin, beyond, margined)

    def _blocks(self, labels, local, z):
        """Block by block the local anchors: ``own`` and ``share``, found on
        the host, from where copies go for which nobody waits."""
        order = np.argsort(labels, kind="stable")
        place, ordered = np.argsort(order), labels[order]
        # Of each sample's speaker: its first place in the order, its samples
        start = np.searchsorted(ordered, labels)
        size = np.searchsorted(ordered, labels, side="right") - start
        anchors = local.start + np.flatnonzero(size[local] > 1)
        # Of the mean; DDP divides the gradients by the number of processes.
        part = (world_size() if self.gather else 1) / max((size > 1).sum(), 1)
        turn = np.arange(size.max(initial=1))
        n_rows = self.chunk_size
        if n_rows is None:
            n_rows = _BLOCK_ACCELERATOR if z.is_cuda else _BLOCK_CPU
            limit = _BLOCK_POSITIVES // max(len(turn), z.shape[1]) // len(turn)
            n_rows = max(min(n_rows // max(len(z), 1), limit), 1)
        for block in range(0, len(anchors), n_rows):
            rows = anchors[block : block + n_rows, None]
            start_i, size_i = start[rows], size[rows]
            # Round the circle of the speaker's samples, from the anchor on
            turned = start_i + (place[rows] - start_i + turn) % size_i
            own = np.where(turn < size_i, order[turned], rows)
            share = (turn < size_i)[:, 1:] * (part / (size_i - 1))
            found = torch.from_numpy(own), torch.from_numpy(share).to(z.dtype)
            if z.is_cuda:
                found = [tensor.pin_memory() for tensor in found]
            yield [tensor.to(z.device, non_blocking=True) for tensor in found]


class _SumOfBlocks(torch.autograd.Function):
    """sum_b f(*b, z, *others) of unit vectors z, block by block in memory."""

    @staticmethod
    def forward(ctx, function, blocks, x, *others):
        """The sum; its gradients are found at once."""
        # A row's largest entry first: no scale overflows in the square.
        largest = torch.linalg.vector_norm(x, math.inf, 1, keepdim=True)
        z = x.detach() / largest.masked_fill_(largest == 0, 1.0)
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        z /= length.clamp_min_(0.5)  # 0 stays 0
        inputs = [z, *(y.detach() for y in others)]
        for y, wanted in zip(inputs, ctx.needs_input_grad[2:]):
            y.requires_grad_(wanted)
            y.grad = torch.zeros_like(y) if wanted else None
        total = z.new_zeros(())
        for block in blocks:
            with torch.enable_grad():
                value = function(*block, *inputs)
            if value.requires_grad:
                value.backward()  # adds to y.grad
            total += value.detach()
        if z.requires_grad:  # from z on to x: no slope along it
            z.grad -= z * (z.grad * z).sum(1, keepdim=True)
            z.grad /= length * largest
        ctx.save_for_backward(*(y.grad for y in inputs))
        return total

    @staticmethod
    def backward(ctx, grad_output):
        """The gradients that were found."""
        if torch.is_grad_enabled():
            raise RuntimeError("this loss cannot be differentiated twice")
        found = (g if g is None else g * grad_output for g in ctx.saved_tensors)
        return (None, None, *found)


class _LogSumExp(torch.autograd.Function):
    """log sum_a exp(x_ia), [I, 1], in the memory of x: at the columns ``own``
    other values instead, and the first of them left out."""

    @staticmethod
    def forward(ctx, x, own, values):
        """The logarithms."""
        x = x.detach().scatter_(1, own[:, 1:], values)
        x.scatter_(1, own[:, :1], _HIDDEN)
        top = x.amax(1, keepdim=True)
        ctx.exps, ctx.own = x.sub_(top).exp_(), own
        ctx.sums = ctx.exps.sum(1, keepdim=True)
        return ctx.sums.log().add_(top)

    @staticmethod
    def backward(ctx, grad_output):
        """Each entry's share of the sum; none of what is left out."""
        shares = ctx.exps.mul_(grad_output / ctx.sums)
        of_values = shares.gather(1, ctx.own[:, 1:])
        return shares.scatter_(1, ctx.own, 0.0), None, of_values


def _check(embeddings, labels, weights):
    given = [embeddings, labels] + ([] if weights is None else [weights])
    for name, value in zip(("embeddings", "labels", "sample_weights"), given):
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise ValueError(f"{name} must be a torch.Tensor, not {kind}")
    embeddings = embeddings.squeeze(1) if embeddings.dim() == 3 else embeddings
    labels = labels.squeeze(1) if labels.dim() == 2 else labels
    fits = {x.shape for x in (labels, *given[2:])} == {embeddings.shape[:1]}
    if embeddings.dim() != 2 or not fits:
        raise ValueError(
            "embeddings must be [N, D] or [N, 1, D], labels [N] or [N, 1] and "
            f"sample_weights [N], not {[list(x.shape) for x in given]}"
        )
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    return embeddings, labels
