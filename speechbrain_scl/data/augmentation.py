"""Noise and room impulse responses for SpeechBrain's augmenters."""

import os
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.audio import check_all, find_audio
from speechbrain_scl.data.download import fetch_archive
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_folder, write_audio

logger = get_logger(__name__)


def prepare_augmentation_folder(folder, csv_file, url=None, sample_rate=16000):
    """Lists a folder of recordings as ``AddNoise`` and ``AddReverb`` read it,
    after a zip archive at ``url`` where it does not exist. No folder: no list,
    and none of an earlier run."""
    if folder is None:
        Path(csv_file).unlink(missing_ok=True)
        return
    if not os.path.isdir(folder):
        if not url:
            raise UserError(
                f"{folder}: there is no such folder of recordings to augment "
                "with; name one, or train with --augmentation=synthesised "
                "(noise and rooms out of random numbers) or "
                "--augmentation=none"
            )
        fetch_archive(url, folder)
    paths = find_audio(folder)
    accepted, excluded = check_all(paths, sample_rate=sample_rate)
    first = "".join(f"; {e.path}: {e.reason}, {e.value}" for e in excluded[:1])
    if not accepted:
        raise UserError(
            f"{folder}: none of {len(paths)} audio files can be used{first}"
        )
    if excluded:
        n = f"{len(excluded)} of {len(paths)}"
        logger.warning(f"{folder}: {n} files are not used{first}")
    rows = []
    for i, file in enumerate(accepted):
        kind = os.path.splitext(file.path)[1][1:].lower()
        rows.append([i, file.duration, os.path.abspath(file.path), kind, ""])
    write_csv(csv_file, "ID duration wav wav_format wav_opts".split(), rows)


def prepare_augmentation(hparams):
    """Prepares the recordings that an experiment augments with: those of
    folders, ``synthesised`` ones, or none."""
    source = hparams.get("augmentation", "folders")
    if source == "none":
        return
    rate = hparams["sample_rate"]
    for kind, place, url in (
        ("noise", "data_folder_noise", "NOISE_DATASET_URL"),
        ("rir", "data_folder_rir", "RIR_DATASET_URL"),
    ):
        folder = hparams[place]
        if source == "synthesised":
            folder = os.path.join(hparams["save_folder"], f"synthesised_{kind}")
            if not os.path.isdir(folder):
                _synthesise(folder, kind, hparams["seed"], rate)
        csv_file = hparams[f"{kind}_annotation"]
        prepare_augmentation_folder(folder, csv_file, hparams.get(url), rate)


def augmenter_of(hparams):
    """An experiment's augmenter without what has no recordings, or None."""
    augmenter = hparams.get("wav_augment")
    if hparams.get("augmentation") == "none":
        return None
    augmentations = getattr(augmenter, "augmentations", None)
    if augmentations is None:  # no augmenter, or not SpeechBrain's
        return augmenter
    for name, augmentation in list(augmentations.items()):
        csv_file = getattr(augmentation, "csv_file", None)
        if csv_file is not None and not os.path.isfile(csv_file):
            del augmentations[name]
    augmenter.check_min_max_augmentations()
    return augmenter if augmentations else None


def _synthesise(folder, kind, seed, sample_rate, count=50):
    """Fills a folder with noises of four seconds, or with room responses."""
    rng = np.random.default_rng([seed, ("noise", "rir").index(kind)])
    with atomic_folder(folder) as aside:
        for i in range(count):
            if kind == "noise":
                signal = 0.3 * noise(rng, 4.0, sample_rate)
            else:
                signal = room(rng, sample_rate)
            path = os.path.join(aside, f"{i:03d}.wav")
            write_audio(path, signal, sample_rate)


def room(rng, sample_rate=16000):
    """A room impulse response: direct sound and a tail that decays."""
    decay = rng.uniform(0.1, 0.4)  # seconds to -60 dB
    time = np.arange(int(0.4 * sample_rate)) / sample_rate
    tail = rng.normal(size=len(time)) * np.exp(-6.9 * time / decay)
    tail *= rng.uniform(0.2, 0.6) / np.linalg.norm(tail)
    tail[0] += 1.0
    return tail / np.abs(tail).max()


def noise(rng, seconds, sample_rate=16000):
    """Coloured noise between white and brown."""
    white = rng.normal(size=int(seconds * sample_rate))
    coloured = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.98)], white)
    return coloured / np.abs(coloured).max()
