"""What near speakers cost: processor seconds per epoch.

    python benchmarks/near.py 7205 100000

The tree over random vectors of 192 dimensions, and the order of all batches (32
speakers x 2 utterances, of 4 each) without and with half of a batch's speakers
near one another.
"""

import sys

import measure
import numpy as np

from speechbrain_scl.samplers import NearSpeakerBatchSampler


def row(n):
    """Of so many speakers."""
    labels = np.arange(n).repeat(4)
    sampler = NearSpeakerBatchSampler(labels, 32, 2, seed=0, hard=0.5)
    vectors = np.random.default_rng(0).normal(size=(n, 192))
    order = measure.spent(list, sampler)
    tree = measure.spent(sampler.find_near, vectors.astype(np.float32))
    near = measure.spent(list, sampler)
    times = (f"{x.cpu:.2f} s" for x in (tree, order, near))
    return [str(n), str(len(sampler)), *times]


if __name__ == "__main__":
    head = ["speakers", "batches", "tree", "order", "order, half near"]
    print(measure.table(head, [row(int(n)) for n in sys.argv[1:]]))
