"""Gathering a batch across processes, with its gradient.

``torch.distributed`` alone gives a gather without a gradient, and expects the
same number of rows from every process. Contrastive pairs need neither.
"""

import torch


def world_size():
    """The number of processes of the default group; 1 where there is none."""
    if not torch.distributed.is_initialized():
        return 1
    return torch.distributed.get_world_size()


def rank():
    """The number of this process in the default group; 0 without one."""
    if not torch.distributed.is_initialized():
        return 0
    return torch.distributed.get_rank()


def unwrapped(module):
    """The module below DDP's and torch.compile's wrappers."""
    for wrapper in ("module", "_orig_mod"):
        module = getattr(module, wrapper, module)
    return module


def all_reduce_sum(tensor):
    """Sums a tensor (of the same shape on every process) over all processes;
    no gradient flows through. The tensor itself where there is only one."""
    return _all_reduce(tensor, torch.distributed.ReduceOp.SUM)


def all_reduce_max(tensor):
    """The largest value over all processes; otherwise as ``all_reduce_sum``."""
    return _all_reduce(tensor, torch.distributed.ReduceOp.MAX)


def _all_reduce(tensor, operation):
    if world_size() == 1:
        return tensor
    reduced = tensor.detach().clone()
    torch.distributed.all_reduce(reduced, operation)
    return reduced


def gather_rows(*tensors, sizes=None):
    """Joins the rows of every process, in the order of the ranks.

    The processes may hold different numbers of rows. The gradient with respect
    to the local rows is the sum of the gradients that all processes send back::

        rank 0: [x0]  --.                .--> d(loss_0 + loss_1) / d x0
                        +--> [x0; x1] ---+
        rank 1: [x1]  --'                '--> d(loss_0 + loss_1) / d x1

    Arguments
    ---------
    *tensors : torch.Tensor
        Each [n, ...] with the same local n; trailing shapes are equal on all
        processes.
    sizes : list of int or None
        The n of each process where it is known; asking for them makes the
        host wait for the device.

    Returns
    -------
    list of torch.Tensor
        Each [sum of n, ...].
    slice
        Where the local rows lie in them.

    Example
    -------
    >>> (rows,), local = gather_rows(torch.arange(3))
    >>> rows, local
    (tensor([0, 1, 2]), slice(0, 3, None))
    """
    n_local = tensors[0].shape[0]
    if world_size() == 1:
        return list(tensors), slice(0, n_local)
    if sizes is None:
        sizes = rows_of_all(n_local, tensors[0].device)
    first = sum(sizes[: torch.distributed.get_rank()])
    rows = [_all_rows(tensor, sizes) for tensor in tensors]
    return rows, slice(first, first + n_local)


def _all_rows(tensor, sizes):
    from torch.distributed.nn.functional import all_gather

    # Every process sends the same shape: pad to the largest, cut after.
    padded = tensor.new_zeros(max(sizes), *tensor.shape[1:])
    padded = torch.cat([tensor, padded[len(tensor) :]])
    received = all_gather(padded)
    return torch.cat([rows[:n] for rows, n in zip(received, sizes)])


def rows_of_all(n_local, device):
    """How many rows each process holds, in the order of the ranks."""
    if world_size() == 1:
        return [n_local]
    size = torch.tensor([n_local], device=device)
    received = [torch.zeros_like(size) for _ in range(world_size())]
    torch.distributed.all_gather(received, size)
    return torch.cat(received).tolist()


def leave_process_group():
    """Ends a distributed run in good order; without one it does nothing.

    A process that ends while others still talk to it may abort at its very
    end (gloo), and the launcher then calls finished work a failure.
    """
    if world_size() > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
