"""What near speakers cost at an epoch's start: processor seconds and memory.

    python benchmarks/near.py 7205 1000000

The tree over random vectors of 192 dimensions, and the order of all batches (32
speakers x 2 utterances, of 4 each) without and with half of a batch's speakers
near one another.
"""

import sys
from collections import deque

import measure
import numpy as np

from speechbrain_scl.samplers import NearSpeakerBatchSampler


def row(n):
    """Of so many speakers."""
    labels = np.arange(n).repeat(4)
    sampler = NearSpeakerBatchSampler(labels, 32, 2, seed=0, hard=0.5)
    vectors = np.random.default_rng(0).normal(size=(n, 192)).astype(np.float32)

    def order():
        deque(sampler, maxlen=0)

    cells = [f"{n:,}", f"{len(sampler):,}"]
    for stage in (order, lambda: sampler.find_near(vectors), order):
        took, mib = measure.spent_here(stage)
        cells.append(f"{took.cpu:.2f} s, {mib:,.0f} MiB")
    return cells


if __name__ == "__main__":
    head = ["speakers", "batches", "order", "tree", "order, half near"]
    rows = [measure.alone(row, int(n)) for n in sys.argv[1:]]
    print(measure.table(head, rows))
