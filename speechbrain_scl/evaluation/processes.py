"""Work dealt out over the processes that torchrun started."""

import contextlib
import datetime

import torch.distributed as dist

from speechbrain.utils.distributed import ddp_barrier
from speechbrain_scl.distributed import rank, world_size

# Whoever is done first waits for the slowest: hours, on unequal machines.
_PATIENCE = datetime.timedelta(days=7)


def deal(items):
    """This process's part of a list that is the same in all of them; dealt like
    cards, so that neighbours of one size are shared evenly."""
    return items[rank() :: world_size()]


@contextlib.contextmanager
def main_first():
    """The main process goes ahead: the others find the files that it made."""
    if rank() > 0:
        ddp_barrier()
    yield
    if rank() == 0:
        ddp_barrier()


@contextlib.contextmanager
def gathering():
    """A way to bring together what each process has.

    It has a group of its own on the CPU: NCCL would need the GPU's memory, and
    gives up on a process that is late. It takes what this process has, and
    returns what each one has, in the order of the ranks.
    """
    if world_size() == 1:
        yield lambda mine: [mine]
        return
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def gather(mine):
        found = [None] * world_size()
        dist.all_gather_object(found, mine, group=group)
        return found

    try:
        yield gather
    finally:
        dist.destroy_process_group(group)
