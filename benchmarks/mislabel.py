"""Wrong labels: a share of the training utterances under another speaker."""

import dataclasses
import random
from pathlib import Path

import measure

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.manifest import read_manifest, write_manifest

SCRIPT = measure.ROOT / "recipes" / "VoxCeleb" / "voxceleb_prepare.py"


def mislabel(utterances, share, seed):
    """The utterances, a random share of them under another speaker."""
    rng = random.Random(seed)
    speakers = sorted({u.spk_id for u in utterances})
    noisy = list(utterances)
    n_wrong = int(share * len(noisy))
    for i in sorted(rng.sample(range(len(noisy)), k=n_wrong)):
        others = [s for s in speakers if s != noisy[i].spk_id]
        noisy[i] = dataclasses.replace(noisy[i], spk_id=rng.choice(others))
    return noisy


def prepare(hparams):
    """What the VoxCeleb recipe's training does first."""
    same = ("data_folder", "save_folder", "valid_speakers", "min_duration")
    same += ("check_audio", "max_excluded", "seed")
    measure.module(SCRIPT, "recipe").prepare_voxceleb(
        verification_files=hparams["verification_file"],
        **{key: hparams[key] for key in same},
    )


def mislabelled_training(arguments, share, seed):
    """Prepares a training of the VoxCeleb recipe with wrong labels, from its
    script's arguments: the further ones that it then takes. The utterances of
    the validation keep their right labels."""
    hparams, *_ = read_experiment(arguments)
    prepare(hparams)
    clean = read_manifest(hparams["train_annotation"])
    noisy = str(Path(hparams["save_folder"]) / "mislabelled.csv")
    write_manifest(noisy, mislabel(clean, share, seed))
    return ["--skip_prep=True", f"--train_annotation={noisy}"]
