#!/usr/bin/env python3
"""Gives a share of a training manifest's utterances another speaker's label.

    python benchmarks/mislabel.py train.csv noisy.csv --share 0.1

Train on the result with --skip_prep=True --train_annotation=noisy.csv
--valid_annotation=valid.csv, whose speakers keep their right labels.
"""

import argparse
import dataclasses
import random
import sys
from pathlib import Path

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.manifest import read_manifest, write_manifest
from speechbrain_scl.errors import user_errors_in_one_line

VOXCELEB = Path(__file__).resolve().parent.parent / "recipes" / "VoxCeleb"


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


def mislabelled_training(arguments, share, seed):
    """Prepares a training of the VoxCeleb recipe with wrong labels.

    Arguments
    ---------
    arguments : list of str
        Those of its script.
    share : float
        Of the training utterances.
    seed : int
        Draws which ones.

    Returns
    -------
    list of str
        Further arguments of the script.
    """
    if str(VOXCELEB) not in sys.path:
        sys.path.insert(0, str(VOXCELEB))
    from voxceleb_prepare import prepare_voxceleb

    hparams, *_ = read_experiment(arguments)
    same = ("data_folder", "save_folder", "valid_speakers", "min_duration")
    same += ("check_audio", "max_excluded", "seed")
    prepare_voxceleb(
        verification_files=hparams["verification_file"],
        **{key: hparams[key] for key in same},
    )
    clean = read_manifest(hparams["train_annotation"])
    noisy = str(Path(hparams["save_folder"]) / "mislabelled.csv")
    write_manifest(noisy, mislabel(clean, share, seed)[0])
    return ["--skip_prep=True", f"--train_annotation={noisy}"]


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
