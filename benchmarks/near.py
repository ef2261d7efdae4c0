"""What near speakers cost: seconds per epoch by the number of speakers.

    python benchmarks/near.py 7205 100000

Of each epoch the tree over random vectors (192-d), and the order of all its
batches (32 speakers x 2 utterances, 4 utterances of each speaker) without and
with half of a batch's speakers near.
"""

import argparse
import time

import numpy as np

from speechbrain_scl.samplers import SpeakerBatchSampler


def seconds(run):
    """Of the processor."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speakers", type=int, nargs="+")
    print("| speakers | batches | tree | order | order, half near |")
    print("|--:|--:|--:|--:|--:|")
    for n in parser.parse_args().speakers:
        sampler = SpeakerBatchSampler(
            np.arange(n).repeat(4), 32, 2, seed=0, hard=0.5
        )
        vectors = np.random.default_rng(0).normal(size=(n, 192))
        vectors = vectors.astype(np.float32)
        plain = seconds(lambda: sum(1 for _ in sampler))
        tree = seconds(lambda: sampler.find_near(vectors))
        near = seconds(lambda: sum(1 for _ in sampler))
        times = " | ".join(f"{t:.2f} s" for t in (tree, plain, near))
        print(f"| {n} | {len(sampler)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
