"""Class-aware attention: how well a sample fits its own class."""

import torch
import torch.nn.functional as F

from speechbrain_scl.distributed import gather_rows, world_size

_RESCALE = ("best_class", "max", "mean", "none")


class ClassAwareAttention(torch.nn.Module):
    r"""Attention of a sample by the classifier's class vectors.

    With f_i the embedding of sample i, y_i its class and c_k the vector of
    class k, all of unit length,

        a_i = exp(s f_i . c_{y_i}) / sum_k exp(s f_i . c_k)

    the softmax over classes taken at the sample's own class (Wang et al.,
    AAAI 2019, arXiv 1811.01459; Li, Mak and Meng, ICASSP 2023,
    arXiv 2210.16622). A hard or mislabelled sample lies closer to another
    class's vector, so its a_i is small, and with it every pair
    A_ij = min(a_i, a_j) that ``SupConMarginLoss`` weighs.

    Over many classes a_i is near 1/C for every sample of an untrained model,
    and all pairs would fade together, so a_i is rescaled:

    - ``best_class``: divided by the softmax at the best class,
      a_i = exp(s (f_i . c_{y_i} - max_k f_i . c_k)), so 1 for every sample that
      lies closest to its own class.
    - ``max``: divided by the largest of the batch.
    - ``mean``: divided by the mean of the batch, then cut at 1.
    - ``none``: as it is.

    Arguments
    ---------
    scale : float
        s > 0, the inverse temperature of the softmax over classes.
    rescale : str
        ``best_class``, ``max``, ``mean`` or ``none``.
    detach : bool
        Whether the attention is a constant to the gradient. If not, the
        contrastive loss can lower itself by lowering the attention.
    gather : bool
        Whether "the batch" of ``max`` and ``mean`` is that of all processes,
        as for ``SupConMarginLoss``.

    Raises
    ------
    ValueError
        An option outside its range.

    Example
    -------
    >>> attention = ClassAwareAttention(scale=10.0)
    >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> labels = torch.tensor([0, 1])  # the second one is mislabelled
    >>> attention(embeddings, labels, torch.eye(2))
    tensor([1.0000e+00, 4.5400e-05])
    """

    def __init__(
        self,
        scale: float = 30.0,
        rescale: str = "best_class",
        detach: bool = True,
        gather: bool = False,
    ):
        super().__init__()
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale={scale}: it must be above 0")
        if rescale not in _RESCALE:
            raise ValueError(
                f"rescale={rescale!r}: choose one of {list(_RESCALE)}"
            )
        self.scale = float(scale)
        self.rescale = rescale
        self.detach = detach
        self.gather = gather

    def forward(self, embeddings, labels, class_weights):
        """The attention of each sample.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any scale.
        labels : torch.Tensor
            Integer classes below C, [N] or [N, 1]; they may lie on the host
            while the embeddings are on an accelerator.
        class_weights : torch.Tensor
            The class vectors [C, D], any scale; usually the classifier's own
            weight. Of several per class, [C, K, D], the nearest counts.

        Returns
        -------
        torch.Tensor
            a_i in (0, 1], [N], float32 (float64 for float64 embeddings).

        Raises
        ------
        ValueError
            Labels that are no integers below C, or not N (on a GPU, where
            looking would be waiting, one too large stops the program), or
            class vectors of another dimension.
        """
        embeddings = embeddings.flatten(1)
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        if self.detach:
            embeddings = embeddings.detach()
            class_weights = class_weights.detach()
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = class_cosines(
                embeddings.to(dtype), class_weights.to(dtype)
            )
        return self.of_cosines(cosines, labels)

    def of_cosines(self, cosines, labels):
        """The same from the f_i . c_k, [N, C] or [N, 1, C], where a classifier
        has found them already.

        Example
        -------
        >>> cosines = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> ClassAwareAttention(1.0).of_cosines(cosines, torch.tensor([0, 1]))
        tensor([1.0000, 0.3679])
        """
        cosines = cosines.detach() if self.detach else cosines
        cosines = cosines.flatten(1)
        cosines = cosines.to(torch.promote_types(cosines.dtype, torch.float32))
        log_a = self.scale * _own_class(cosines, labels)
        if self.rescale == "best_class":
            # The softmax's denominator is in both and drops out.
            log_a = log_a - self.scale * cosines.amax(1)
        else:
            log_a = log_a - (self.scale * cosines).logsumexp(1)
        if self.rescale == "max":
            # An empty batch has none.
            top = log_a.amax(0) if len(log_a) else log_a.sum() - torch.inf
            log_a = log_a - self._of_all(top).amax(0)
        elif self.rescale == "mean":
            log_sum = self._of_all(log_a.logsumexp(0)).logsumexp(0)
            n = self._of_all(torch.full_like(log_sum, len(log_a))).sum(0)
            log_a = (log_a - (log_sum - n.log())).clamp_max(0.0)
        # In (0, 1]: a pair is never lost altogether.
        return log_a.exp().clamp_min(torch.finfo(log_a.dtype).tiny)

    def _of_all(self, value):
        """One number of each process that shares the batch."""
        if not self.gather:
            return value[None]
        (values,), _ = gather_rows(value[None], sizes=[1] * world_size())
        return values


def _own_class(values, labels):
    """[N, C], [N] or [N, 1] -> [N]."""
    if not isinstance(labels, torch.Tensor):
        kind = type(labels).__name__
        raise ValueError(f"labels must be a torch.Tensor, not {kind}")
    if labels.dtype == torch.bool or labels.is_floating_point():
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    n, n_classes = values.shape
    if labels.numel() != n:
        raise ValueError(
            f"labels must be [{n}] or [{n}, 1], not {list(labels.shape)}"
        )
    labels = labels.reshape(n, 1).long().to(values.device, non_blocking=True)
    try:
        return values.gather(1, labels).squeeze(1)
    except RuntimeError as error:  # Looked at only now: that is waiting.
        wrong = labels[(labels < 0) | (labels >= n_classes)].tolist()
        if not wrong:
            raise
        raise ValueError(
            f"labels must lie in 0 ... {n_classes - 1}, as there are "
            f"{n_classes} class vectors, not {wrong[0]}"
        ) from error


def class_cosines(embeddings, class_weights):
    """Cosines [N, C] of embeddings [N, D] with class vectors [C, D], any scale;
    of several vectors per class, [C, K, D], with the nearest.

    Example
    -------
    >>> class_cosines(torch.eye(2), torch.tensor([[[2.0, 0], [0, -3]]]))
    tensor([[1.],
            [0.]])
    """
    dim = embeddings.shape[-1]
    if class_weights.dim() not in (2, 3) or class_weights.shape[-1] != dim:
        raise ValueError(
            f"class_weights must be [C, {dim}] or [C, K, {dim}], not "
            f"{list(class_weights.shape)}"
        )
    vectors = F.normalize(class_weights.flatten(0, -2))
    cosines = F.linear(F.normalize(embeddings), vectors)
    if class_weights.dim() == 3:
        cosines = cosines.unflatten(1, class_weights.shape[:2]).amax(2)
    return cosines
