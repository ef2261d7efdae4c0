"""Supervised contrastive loss with an additive margin in angular space."""

import math

import torch

from speechbrain_scl._margin_contrast import margin_contrast
from speechbrain_scl._margin_terms import Options
from speechbrain_scl._speaker_groups import SpeakerGroups
from speechbrain_scl.distributed import gather_rows, world_size
from speechbrain_scl.memory import CrossBatchMemory

__all__ = ["SpeakerGroups", "SupConMarginLoss"]

_MARGIN_TYPES = ("angular", "cosine")
_DENOMINATORS = ("none", "positive", "all_positives")
_ATTENTION_ON = ("negatives", "logits")
_INTEGERS = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


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
    memory : int
        How many embeddings of past batches to contrast with too, as constants
        (``speechbrain_scl.memory.CrossBatchMemory``); 0 for none. They are
        taken in while the module is in training mode.
    memory_positives : bool
        Whether remembered samples of the anchor's speaker are positives.

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
        memory=0,
        memory_positives=False,
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
        self.memory = None
        if memory:
            self.memory = CrossBatchMemory(memory, memory_positives)

    def forward(self, embeddings, labels, sample_weights=None, groups=None):
        """The mean loss over the anchors that have a positive.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any scale, any floating type.
        labels : torch.Tensor
            Integer speaker labels, [N] or [N, 1].
        sample_weights : torch.Tensor or None
            The attention a_i in (0, 1], [N]. Differentiated if it requires a
            gradient. 0 counts as the least number above it.
        groups : SpeakerGroups or None
            ``SpeakerGroups.of(labels, gather)``, found before the labels were
            moved to an accelerator; then nothing here waits for it.

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
        device = embeddings.device
        weights = sample_weights
        if groups is None:
            groups = SpeakerGroups.of(labels, self.gather)
        groups = groups.to(device)
        with torch.autocast(device_type=device.type, enabled=False):
            if embeddings.dtype != torch.float64:
                embeddings = embeddings.float()
            if weights is not None:
                weights = _check_weights(weights, embeddings)
            if self.gather:
                rows = [embeddings] + ([] if weights is None else [weights])
                (embeddings, *rest), _ = gather_rows(*rows, sizes=groups.sizes)
                weights = rest[0] if rest else None

            past, n_anchors = None, max(groups.n_anchors, 1)
            if self.memory is not None:
                past = self.memory.recall(embeddings)
                if past.positives:
                    n_anchors = _n_anchors(groups, past)
            if groups.n_anchors or past is not None:
                # DDP divides the gradients by the number of processes.
                scale = (world_size() if self.gather else 1) / n_anchors
                value = margin_contrast(
                    embeddings,
                    weights,
                    groups,
                    self._options(),
                    scale,
                    self.chunk_size,
                    past,
                )
            else:
                value = (embeddings * 0.0).sum()
            if self.memory is not None and self.training:
                labels = torch.empty_like(groups.labels).index_copy_(
                    0, groups.order, groups.labels
                )
                self.memory.remember(embeddings.detach(), labels, weights)
            return value

    def _options(self):
        """What they are now: a schedule may have changed the margin."""
        return Options(*(getattr(self, name) for name in Options._fields))

    def extra_repr(self):
        """The options, as ``print(module)`` shows them."""
        return (
            f"margin={self.margin}, temperature={self.temperature}, "
            f"margin_type={self.margin_type}, "
            f"margin_in_denominator={self.margin_in_denominator}, "
            f"attention_on={self.attention_on}, gather={self.gather}"
        )


def _n_anchors(groups, past):
    """How many samples have a positive, in the batch or in the past."""
    met = (groups.labels[:, None] == past.labels) & past.valid
    return (met.any(1) | (groups.size > 1)).sum().clamp_min(1)


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
    if labels.dtype not in _INTEGERS:
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
