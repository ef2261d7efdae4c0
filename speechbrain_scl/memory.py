"""A memory of past batches: more negatives than a batch holds."""

import torch

from speechbrain_scl._margin_contrast import Past


class CrossBatchMemory(torch.nn.Module):
    """The most recent embeddings, as further samples to contrast with.

    Embeddings drift slowly, so those of recent batches still tell where other
    speakers are (Wang et al., "Cross-Batch Memory for Embedding Learning",
    CVPR 2020, arXiv 1912.06798). They are constants: the gradient of the
    batch's own part stays exact. They are held as buffers, so that a training
    that goes on from a checkpoint goes on with them.

    An embedding that is not finite is never remembered.

    Arguments
    ---------
    size : int
        How many embeddings; the oldest give way.
    positives : bool
        Whether remembered samples of the anchor's speaker are positives (and
        make anchors of samples without one in the batch). Otherwise they are
        left out.

    Raises
    ------
    ValueError
        Less than one embedding.

    Example
    -------
    >>> memory = CrossBatchMemory(size=3)
    >>> memory.remember(torch.eye(2), torch.tensor([5, 6]))
    >>> memory.remember(2 * torch.eye(2), torch.tensor([7, 8]))
    >>> memory.labels
    tensor([8, 6, 7])
    """

    def __init__(self, size, positives=False):
        super().__init__()
        if size < 1:
            raise ValueError(f"memory={size}: it must hold 1 or more")
        self.size = size
        self.positives = positives
        # The embeddings' dimension is known with the first batch.
        self.register_buffer("embeddings", torch.zeros(size, 0))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.long))
        self.register_buffer("weights", torch.ones(size))
        self.register_buffer("valid", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def recall(self, embeddings):
        """What is remembered, beside a batch.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D], the batch.

        Returns
        -------
        Past
            [M, ...], on its device.
        """
        self._fit(embeddings)
        return Past(
            self.embeddings,
            self.labels,
            self.weights,
            self.valid,
            self.positives,
        )

    @torch.no_grad()
    def remember(self, embeddings, labels, weights=None):
        """Takes a batch in, in the place of the oldest.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, D], any scale; the same on all processes.
        labels : torch.Tensor
            [B].
        weights : torch.Tensor or None
            The attention, [B]; 1 where there is none.
        """
        self._fit(embeddings)
        n = min(len(labels), self.size)
        embeddings = embeddings[-n:].to(self.embeddings.dtype)
        finite = embeddings.isfinite().all(1)
        embeddings = embeddings.where(finite[:, None], 0.0)
        if weights is None:
            weights = torch.ones_like(embeddings[:, 0])
        weights = weights.detach()[-n:].where(finite, 1.0)
        weights = weights.to(self.weights.dtype)
        weights = weights.clamp_min(torch.finfo(weights.dtype).tiny)
        places = torch.arange(n, device=self.next.device)
        places = (self.next + places) % self.size
        unit = torch.nn.functional.normalize(embeddings)
        self.embeddings.index_copy_(0, places, unit)
        self.labels.index_copy_(0, places, labels[-n:].to(self.labels.dtype))
        self.weights.index_copy_(0, places, weights)
        self.valid.index_copy_(0, places, finite)
        self.next.add_(n).remainder_(self.size)

    def _fit(self, embeddings):
        """To the dimension and the device of the embeddings."""
        if self.embeddings.device != embeddings.device:
            self.to(embeddings.device)
        if self.embeddings.shape[1] == 0:
            dim = embeddings.shape[1]
            # Not by assignment: a module's hooks on that stop a compiler.
            self._buffers["embeddings"] = embeddings.new_zeros(self.size, dim)
            self._buffers["weights"] = embeddings.new_ones(self.size)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        saved = state_dict.get(f"{prefix}embeddings")
        if saved is not None and self.embeddings.shape[1] == 0:
            self._fit(saved.to(self.embeddings.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
