#!/usr/bin/env python3
"""Gives a share of a training manifest's utterances another speaker's label.

    python benchmarks/mislabel.py train.csv noisy.csv --share 0.1

Train on the result with --skip_prep=True --train_annotation=noisy.csv
--valid_annotation=valid.csv, whose speakers keep their right labels.
"""

import argparse
import dataclasses
import random

from speechbrain_scl.corpora.manifest import read_manifest, write_manifest
from speechbrain_scl.errors import user_errors_in_one_line


def main():
    """Reads, mislabels, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("output")
    parser.add_argument("--share", type=float, default=0.1, help="0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f"--share {args.share}: it must lie between 0 and 1")
    utterances = read_manifest(args.manifest)
    noisy, n_changed = mislabel(utterances, args.share, args.seed)
    write_manifest(args.output, noisy)
    left = len({u.spk_id for u in noisy})
    print(
        f"{args.output}: {n_changed} of {len(noisy)} utterances mislabelled, "
        f"{left} of {len({u.spk_id for u in utterances})} speakers left"
    )


def mislabel(utterances, share, seed):
    """The utterances, a random share of them under another speaker."""
    rng = random.Random(seed)
    speakers = sorted({u.spk_id for u in utterances})
    wrong = set(
        rng.sample(range(len(utterances)), k=int(share * len(utterances)))
    )
    noisy = [
        dataclasses.replace(
            u, spk_id=rng.choice([s for s in speakers if s != u.spk_id])
        )
        if i in wrong
        else u
        for i, u in enumerate(utterances)
    ]
    return noisy, len(wrong)


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
