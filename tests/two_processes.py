"""Two processes that talk by gloo, as torchrun would start them.

A server that has imported PyTorch and this package once forks them.
"""

import multiprocessing
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from warm_start import PRELOADED

multiprocessing.set_forkserver_preload(PRELOADED)


def results_of(function, folder):
    """What ``function(rank, folder)`` returns on each of them."""
    mp.start_processes(
        _on_a_rank, (function, str(folder)), nprocs=2, start_method="forkserver"
    )
    return [
        torch.load(Path(folder, f"{rank}.pt"), weights_only=False)
        for rank in (0, 1)
    ]


def _on_a_rank(rank, function, folder):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.save(function(rank, folder), f"{folder}/{rank}.pt")
    dist.barrier()
    # The threads of gloo may abort a process that ends as usual.
    os._exit(0)
