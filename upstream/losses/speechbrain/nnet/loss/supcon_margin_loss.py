"""Supervised contrastive loss with an additive angular margin, and the
class-aware attention that lets hard negatives contribute less to it.

Authors
 * The speechbrain_scl contributors 2026
"""

import math

import torch
import torch.distributed
import torch.nn.functional as F

from speechbrain.utils.distributed import (
    ddp_all_reduce,
    get_rank,
    is_distributed_initialized,
)


class SupConMarginLoss(torch.nn.Module):
    """Supervised contrastive loss with an additive angular margin.

    With theta_ij the angle between the embeddings of samples i and j, P(i) the
    other samples of i's speaker and N(i) those of other speakers, the loss of
    anchor i is::

        L_i = -1/|P(i)| sum_{p in P(i)} log
              exp(cos(theta_ip + margin) / temperature) / D_i

        D_i = sum_{q in P(i)} exp(cos(theta_iq) / temperature)
            + sum_{n in N(i)} A_in exp(cos(theta_in) / temperature)

    and the result is its mean over the anchors that have a positive. A pair's
    attention A_ij is the lesser of its samples' (see ``ClassAwareAttention``),
    1 without. It weighs the negatives, as written, or multiplies the
    ``logits``: both cosines are A_ij times as long then, and A_in no factor.

    With margin 0 and no attention this is L_out of Khosla et al., "Supervised
    Contrastive Learning", NeurIPS 2020 (https://arxiv.org/abs/2004.11362). The
    margin and the attention follow Li, Mak and Meng, "Discriminative speaker
    representation via contrastive learning with class-aware attention in
    angular space", ICASSP 2023 (https://arxiv.org/abs/2210.16622).

    Where theta + margin exceeds pi, the margined cosine goes on as
    cos(theta) + cos(margin) - 1, so that it stays monotone in theta.

    Arguments
    ---------
    margin : float
        In radians, at least 0 and below pi.
    temperature : float
        Above 0.
    attention_on : str
        "negatives" or "logits".
    gather : bool
        Whether the samples of all processes are compared with the local
        anchors. Under DDP each process needs as many samples as the others;
        where all have a positive, the gradient is that of the joined batch.

    Example
    -------
    >>> loss = SupConMarginLoss(margin=0.0, temperature=1.0)
    >>> embeddings = torch.eye(4)
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> value = loss(embeddings, labels)
    >>> torch.isclose(value, torch.tensor(3.0).log())
    tensor(True)
    """

    def __init__(
        self,
        margin=0.2,
        temperature=0.07,
        attention_on="negatives",
        gather=False,
    ):
        super().__init__()
        if not 0 <= margin < math.pi:
            raise ValueError(f"margin={margin}: radians from 0 to below pi")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: it must be above 0")
        if attention_on not in ("negatives", "logits"):
            raise ValueError(
                f"attention_on={attention_on!r}: negatives or logits"
            )
        self.margin = margin
        self.temperature = temperature
        self.attention_on = attention_on
        self.gather = gather

    def forward(self, embeddings, labels, attention=None):
        """Returns the mean loss of the anchors that have a positive.

        Arguments
        ---------
        embeddings : torch.Tensor
            Of any length, [batch, dim] or [batch, 1, dim].
        labels : torch.Tensor
            The speakers, integers, [batch] or [batch, 1].
        attention : torch.Tensor or None
            Of each sample, above 0, [batch]; a constant to the gradient.

        Returns
        -------
        loss : torch.Tensor
            A number; 0 where no anchor has a positive.
        """
        # A low temperature needs float32 in the exponent.
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            anchors = F.normalize(embeddings.flatten(1).float(), dim=1)
            labels = labels.flatten()
            if len(labels) != len(anchors):
                raise ValueError(
                    f"{len(labels)} labels of {len(anchors)} embeddings"
                )
            if attention is None:
                attention = anchors.new_ones(len(anchors))
            own = anchors, labels, attention.detach().to(anchors.dtype)
            first, everybody = 0, own
            if self.gather and is_distributed_initialized():
                first = get_rank() * len(anchors)
                everybody = [_GatherRows.apply(tensor) for tensor in own]
            samples, all_labels, all_attention = everybody

            same = labels[:, None] == all_labels
            itself = torch.zeros_like(same)
            itself[:, first : first + len(anchors)].fill_diagonal_(True)
            positive = same & ~itself

            cosine = (anchors @ samples.T).clamp(-1.0, 1.0)
            logits = cosine / self.temperature
            margined = self._add_margin(cosine) / self.temperature
            pair = torch.minimum(own[2][:, None], all_attention)
            if self.attention_on == "logits":
                logits, margined = pair * logits, pair * margined
            else:
                # A_in exp(logit) = exp(logit + log A_in)
                pair = pair.clamp(min=torch.finfo(pair.dtype).tiny).log()
                logits = logits + pair.masked_fill(same, 0.0)
            log_d = logits.masked_fill(itself, -math.inf).logsumexp(1)
            losses = (log_d[:, None] - margined).masked_fill(~positive, 0.0)
            n_positives = positive.sum(1)
            has_positive = n_positives > 0
            if not has_positive.any():
                # All processes take part in the backward of the gathering.
                return (samples * 0.0).sum()
            losses = losses.sum(1)[has_positive] / n_positives[has_positive]
            return losses.mean()

    def _add_margin(self, cosine):
        """cos(theta + margin), continued beyond pi."""
        # Under a root, 1 - cos^2 = 0 would have an infinite slope.
        sine_squared = (1.0 - cosine) * (1.0 + cosine)
        eps = torch.finfo(cosine.dtype).eps
        sine = sine_squared.clamp(min=eps).sqrt()
        cos_m, sin_m = math.cos(self.margin), math.sin(self.margin)
        return torch.where(
            cosine < -cos_m,
            cosine + (cos_m - 1.0),
            cosine * cos_m - sine * sin_m,
        )


class ClassAwareAttention(torch.nn.Module):
    """Attention of a sample by how well it fits its own class.

    With f_i the embedding of sample i, y_i its class and c_k the vector of
    class k, all of unit length, it is the softmax over the classes at the
    sample's own class, relative to the softmax at the best one::

        a_i = exp(scale * (f_i . c_{y_i} - max_k f_i . c_k))

    A hard or mislabelled sample lies closer to another class's vector, so its
    a_i is small. Without "relative to the best" every a_i would be about one
    over the number of classes where training begins. The attention is a
    constant to the gradient.

    It goes back to Wang et al., "Deep metric learning by online soft mining
    and class-aware attention", AAAI 2019 (https://arxiv.org/abs/1811.01459).

    Arguments
    ---------
    scale : float
        The inverse temperature of the softmax, above 0.

    Example
    -------
    >>> attention = ClassAwareAttention(scale=10.0)
    >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> labels = torch.tensor([0, 1])  # the second one is mislabelled
    >>> attention(embeddings, labels, class_vectors=torch.eye(2))
    tensor([1.0000e+00, 4.5400e-05])
    """

    def __init__(self, scale=10.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale}: it must be above 0")
        self.scale = scale

    @torch.no_grad()
    def forward(self, embeddings, labels, class_vectors):
        """Returns the attention of each sample.

        Arguments
        ---------
        embeddings : torch.Tensor
            Of any length, [batch, dim] or [batch, 1, dim].
        labels : torch.Tensor
            The classes, integers, [batch] or [batch, 1].
        class_vectors : torch.Tensor
            Of any length, [classes, dim]; usually the classifier's weight.

        Returns
        -------
        attention : torch.Tensor
            At most 1, [batch].
        """
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            cosines = F.linear(
                F.normalize(embeddings.flatten(1).float(), dim=1),
                F.normalize(class_vectors.float(), dim=1),
            )
            own = cosines.gather(1, labels.flatten()[:, None]).squeeze(1)
            return (self.scale * (own - cosines.amax(1))).exp()


class _GatherRows(torch.autograd.Function):
    """All-gather forward; backward the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx, tensor):
        """The rows of all processes."""
        tensor = tensor.contiguous()
        world_size = torch.distributed.get_world_size()
        received = [torch.empty_like(tensor) for _ in range(world_size)]
        torch.distributed.all_gather(received, tensor)
        return torch.cat(received)

    @staticmethod
    def backward(ctx, gradient):
        """The gradient of the local rows."""
        # A copy, as autograd may share the gradient with others.
        gradient = ddp_all_reduce(
            gradient.clone(memory_format=torch.contiguous_format),
            torch.distributed.ReduceOp.SUM,
        )
        return gradient.chunk(torch.distributed.get_world_size())[get_rank()]
