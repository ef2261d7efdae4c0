"""Who speaks where in a batch, found once on the host."""

from typing import NamedTuple

import numpy as np
import torch

from speechbrain_scl.distributed import gather_rows, rows_of_all, world_size


class SpeakerGroups(NamedTuple):
    """A batch sorted by speaker: positives are neighbours.

    The device need not be asked for sizes that shapes depend on, so a training
    step does not wait for it, where the groups were made from labels on the
    host. Everything but ``order`` counts in the sorted order.
    """

    order: torch.Tensor  # the samples sorted by speaker, [B]
    labels: torch.Tensor  # [B]
    size: torch.Tensor  # the samples of sample i's speaker, i among them
    # i, then the others of its speaker in turn, [B, widest]; i again where a
    # speaker has fewer than the widest
    own: torch.Tensor
    no_pair: torch.Tensor  # where own[i, 1 + k] is i again, [B, widest - 1]
    # The place, in the flat no_pair, of the pair as its other end sees it
    mirror: torch.Tensor
    local: torch.Tensor  # the samples of this process
    anchors: torch.Tensor  # those of them that have a positive
    n_anchors: int  # on all processes
    sizes: list[int]  # the samples of each process

    @classmethod
    def of(cls, labels, gather=False):
        """Finds them.

        Arguments
        ---------
        labels : torch.Tensor
            Integers, [N]. On the host nothing waits for the device.
        gather : bool
            Whether the batch is that of all processes.

        Returns
        -------
        SpeakerGroups
            On the labels' device.

        Example
        -------
        >>> groups = SpeakerGroups.of(torch.tensor([7, 3, 7]))
        >>> groups.order, groups.anchors
        (tensor([1, 0, 2]), tensor([1, 2]))
        """
        sizes = [len(labels)]
        if gather:
            sizes = rows_of_all(len(labels), labels.device)
            (labels,), where = gather_rows(labels, sizes=sizes)
        device, labels = labels.device, labels.cpu().numpy()
        order = np.argsort(labels, kind="stable")
        labels = labels[order]
        start = np.searchsorted(labels, labels)
        size = np.searchsorted(labels, labels, side="right") - start
        local = np.arange(len(order))
        pairs = _own_speaker(local[:, None], start[:, None], size[:, None])
        anchors = np.flatnonzero(size > 1)
        n_anchors = len(anchors)
        if gather and world_size() > 1:
            is_local = (order >= where.start) & (order < where.stop)
            local = local[is_local]
            anchors = anchors[is_local[anchors]]
        parts = order, labels, size, *pairs, local, anchors
        parts = map(torch.from_numpy, parts)
        return cls(*parts, n_anchors, sizes).to(device)

    def to(self, device):
        """The same on another device.

        Arguments
        ---------
        device : torch.device
            Where the embeddings are.

        Returns
        -------
        SpeakerGroups
        """
        if self.order.device == device:
            return self
        parts = [
            part.to(device, non_blocking=True)
            if isinstance(part, torch.Tensor)
            else part
            for part in self
        ]
        return SpeakerGroups(*parts)


def _own_speaker(itself, start, size):
    """``own``, ``no_pair`` and ``mirror`` of samples sorted by speaker."""
    turn = np.arange(size.max(initial=0))
    others = start + (itself - start + turn) % size
    missing = turn >= size
    own, no_pair = np.where(missing, itself, others), missing[:, 1:]
    # From its others the way to i goes on round the circle.
    back = np.where(no_pair, 0, size - 1 - turn[1:])
    return own, no_pair, own[:, 1:] * no_pair.shape[1] + back
