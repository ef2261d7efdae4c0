"""Supervised contrastive loss with an additive margin in angular space."""

import math

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from speechbrain_scl.distributed import gather_rows, world_size

_MARGIN_TYPES = ("angular", "cosine")
_DENOMINATORS = ("none", "positive", "all_positives")
_ATTENTION_ON = ("negatives", "logits")
# Entries of a block of the similarity matrix: on a CPU it stays in the cache,
# on an accelerator it is large enough to fill it. And of z_i - z_p.
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
            Integer speaker labels, [N] or [N, 1]. They may lie on the host
            while the embeddings are on an accelerator; then nothing waits for
            it (but for the labels of other processes). Labels on the
            accelerator cost one wait.
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
        embeddings, labels = _check_batch(embeddings, labels)
        weights = []
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype != torch.float64:
                embeddings = embeddings.float()
            if sample_weights is not None:
                weights = [_check_weights(sample_weights, embeddings)]
            first, n_local = 0, len(labels)
            if self.gather and world_size() > 1:
                labels = labels.to(embeddings.device)
                (embeddings, labels, *weights), local = gather_rows(
                    embeddings, labels, *weights
                )
                first = local.start
            z = _unit(embeddings)
            # A weight of 0 counts as the least above it: no logarithm of zero.
            tiny = torch.finfo(z.dtype).tiny
            weights = [w.clamp_min(tiny) for w in weights]
            _, speaker, size = np.unique(
                labels.cpu().numpy(), return_inverse=True, return_counts=True
            )
            anchors = np.flatnonzero(size[speaker] > 1)
            # DDP divides the gradients by the number of processes.
            scale = world_size() if self.gather else 1
            scale = scale / max(len(anchors), 1)
            anchors = anchors[(anchors >= first) & (anchors < first + n_local)]
            rows = self.chunk_size or _rows_of_block(z, size.max(initial=1))
            return _SumOfBlocks.apply(
                self._loss_of_block,
                _blocks(anchors, speaker, rows, z.device),
                scale,
                torch.is_grad_enabled(),
                z,
                *weights,
            )

    def _loss_of_block(self, block, z, a=None):
        """sum of L_i over the anchors i of a block, |I| of them with |P| pairs
        of an anchor and a positive.

        In the symbols of the class, with A_ia = 1 where there is no attention::

            L_i = sum_{p in P(i)} (log D_ip - s'_ip) / |P(i)|

            s_ia  = cos(theta_ia) / tau        the logit of a pair
            s'_ip = cos(theta_ip + m) / tau    of a positive with its margin
            D_ip  = sum_{a not in P(i)} A_ia exp(s_ia)
                    + sum_{q in P(i)} exp(s_iq)

        With a margin in the denominator, s'_iq stands there for q = p or for
        all q. With attention on the logits, A multiplies s and s' instead.
        """
        anchors, i, p, n_positives = block
        z_i = z.index_select(0, anchors)
        logits = (z_i / self.temperature) @ z.T  # [|I|, N]
        # Of the pairs of one speaker, [|P|], by their difference: no close
        # pair loses its angle in rounding, nor in the TF32 of a product.
        chord = z_i.index_select(0, i) - z.index_select(0, p)
        square = chord.square().sum(1).clamp_max(4.0)  # 2 (1 - cos)
        s = (1 - square / 2) / self.temperature
        s_margin = self._add_margin(square) / self.temperature
        if a is not None and self.attention_on == "logits":
            pair = torch.minimum(a.index_select(0, anchors)[:, None], a)
            logits = logits * pair
            s, s_margin = s * pair[i, p], s_margin * pair[i, p]
        elif a is not None:
            log_a = a.log()
            logits += torch.minimum(
                log_a.index_select(0, anchors)[:, None], log_a
            )
        in_all = self.margin_in_denominator == "all_positives"
        logits.index_put_((i, p), s_margin if in_all else s)
        logits.scatter_(1, anchors[:, None], _HIDDEN)
        log_d = logits.logsumexp(1).index_select(0, i)  # [|P|]
        if self.margin_in_denominator == "positive":
            log_d = _log_without(logits, s, i, p, log_d).logaddexp(s_margin)
        return ((log_d - s_margin) / n_positives).sum()

    def _add_margin(self, square):
        """cos(theta + m), monotone over the whole circle, by the chord's."""
        cos = 1 - square / 2
        if self.margin_type == "cosine":
            return cos - self.margin
        cos_m, sin_m = math.cos(self.margin), math.sin(self.margin)
        # The root's slope is infinite at 0.
        tiny = torch.finfo(square.dtype).tiny
        sin = (square * (1 - square / 4)).clamp_min(tiny).sqrt()
        past_pi = cos < -cos_m
        return torch.where(past_pi, cos + cos_m - 1, cos * cos_m - sin * sin_m)

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        return (
            f"margin={self.margin}, temperature={self.temperature}, "
            f"margin_type={self.margin_type}, "
            f"margin_in_denominator={self.margin_in_denominator}, "
            f"attention_on={self.attention_on}, gather={self.gather}"
        )


class _SumOfBlocks(torch.autograd.Function):
    """sum_b f(b, *inputs), scaled, with its gradient: one block in memory."""

    @staticmethod
    def forward(ctx, function, blocks, scale, differentiable, *inputs):
        """The value; the gradients wait for ``backward``."""
        inputs = [
            x.detach().requires_grad_(differentiable and x.requires_grad)
            for x in inputs
        ]
        wanted = [x for x in inputs if x.requires_grad]
        gradients = [torch.zeros_like(x) for x in wanted]
        total = inputs[0].new_zeros(())
        for block in blocks:
            with torch.set_grad_enabled(bool(wanted)):
                value = function(block, *inputs)
            total += value.detach()
            if wanted:
                found = torch.autograd.grad(value, wanted)
                torch._foreach_add_(gradients, list(found))
        gradients = iter([gradient.mul_(scale) for gradient in gradients])
        ctx.save_for_backward(
            *(next(gradients) if x.requires_grad else None for x in inputs)
        )
        return total * scale

    @staticmethod
    def backward(ctx, grad_output):
        """The gradients, found already."""
        # Refused the second time, also where nothing before it has a graph.
        return _scaled(ctx, grad_output.detach().requires_grad_())


@once_differentiable
def _scaled(ctx, factor):
    found = [None if g is None else factor * g for g in ctx.saved_tensors]
    return (None, None, None, None, *found)


def _blocks(anchors, speaker, rows, device):
    """Block by block the anchors, and i, p and |P(i)| of their pairs."""
    for first in range(0, len(anchors), rows):
        block = anchors[first : first + rows]
        same = speaker[block, None] == speaker
        same[np.arange(len(block)), block] = False
        i, p = same.nonzero()
        arrays = map(torch.from_numpy, (block, i, p, same.sum(1)[i]))
        if device.type == "cuda":
            arrays = (array.pin_memory() for array in arrays)
        # On the host until here: copies, for which nobody waits.
        yield [array.to(device, non_blocking=True) for array in arrays]


def _rows_of_block(z, widest):
    """How many anchors suit the device; of the widest speaker all pairs."""
    on_cpu = z.device.type == "cpu"
    elements = _BLOCK_CPU if on_cpu else _BLOCK_ACCELERATOR
    positives = _BLOCK_POSITIVES // (widest * max(z.shape[1], 1))
    return max(min(elements // max(len(z), 1), int(positives)), 1)


def _log_without(logits, s, i, p, log_d):
    """log(D_i - exp(s_ip)), without cancellation where p has most of D_i."""
    top = logits.argmax(1)
    rest = logits.scatter(1, top[:, None], _HIDDEN).logsumexp(1)
    is_top = top[i] == p
    share = (s - log_d).exp().masked_fill(is_top, 0.0)  # at most a half
    return torch.where(is_top, rest[i], log_d + torch.log1p(-share))


def _unit(x):
    """Rows of length one; no scale overflows or vanishes in the square.

    A zero row stays zero.
    """
    largest = x.detach().abs().amax(1, keepdim=True)
    largest = largest.masked_fill(largest == 0, 1.0)
    return torch.nn.functional.normalize(x / largest, eps=0.5)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose one of {list(choices)}")


def _check_batch(embeddings, labels):
    for name, value in (("embeddings", embeddings), ("labels", labels)):
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{name} must be a torch.Tensor, not {type(value).__name__}"
            )
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
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    return embeddings, labels


def _check_weights(sample_weights, embeddings):
    if not isinstance(sample_weights, torch.Tensor):
        raise ValueError(
            "sample_weights is the attention of each sample, a torch.Tensor "
            f"[N], not {type(sample_weights).__name__}: the pairs of another "
            "library's miner cannot be given"
        )
    if sample_weights.shape != embeddings.shape[:1]:
        raise ValueError(
            f"sample_weights must be [N] = [{embeddings.shape[0]}], "
            f"not {list(sample_weights.shape)}"
        )
    return sample_weights.to(embeddings.dtype)
