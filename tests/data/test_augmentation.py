"""What is augmented with: folders, random numbers, or nothing."""

import numpy as np
import pytest
import soundfile
from hyperpyyaml import load_hyperpyyaml

from speechbrain_scl.data.augmentation import augmenter_of, prepare_augmentation
from speechbrain_scl.errors import UserError

TEXT = """
augmentation: {how}
seed: 3
sample_rate: 8000
save_folder: {folder}
noise_annotation: {folder}/noise.csv
rir_annotation: {folder}/rir.csv
data_folder_noise: {noise}
data_folder_rir: {rir}
wav_augment: !new:speechbrain.augment.augmenter.Augmenter
    max_augmentations: 3
    augmentations:
        - !new:speechbrain.augment.time_domain.AddNoise
            csv_file: !ref <noise_annotation>
        - !new:speechbrain.augment.time_domain.AddReverb
            csv_file: !ref <rir_annotation>
        - !new:speechbrain.augment.time_domain.DropChunk
"""


def names(folder, how="folders", noise="null", rir="null"):
    text = TEXT.format(how=how, folder=folder, noise=noise, rir=rir)
    hparams = load_hyperpyyaml(text)
    prepare_augmentation(hparams)
    augmenter = augmenter_of(hparams)
    if augmenter is None:
        return None
    assert augmenter.max_augmentations == len(augmenter.augmentations)
    return [type(a).__name__ for a in augmenter.augmentations.values()]


def test_recordings_that_are_not_there_are_left_out(tmp_path):
    synthesised = names(tmp_path, "synthesised", "nowhere", "nowhere")
    assert synthesised == ["AddNoise", "AddReverb", "DropChunk"]
    noise = tmp_path / "synthesised_noise"
    # The lists of that run do not bring back what is left out now.
    assert names(tmp_path) == ["DropChunk"]
    assert names(tmp_path, noise=noise) == ["AddNoise", "DropChunk"]
    assert names(tmp_path, "none", "nowhere", "nowhere") is None
    with pytest.raises(UserError, match="--augmentation=synthesised"):
        names(tmp_path, noise="nowhere")


def test_folders_without_use_are_refused(tmp_path):
    with pytest.raises(UserError, match="none of 0 audio files"):
        names(tmp_path, noise=tmp_path)
    soundfile.write(tmp_path / "a.wav", np.ones((99, 2)), 16000)
    with pytest.raises(UserError, match="a.wav: sample rate, 16000"):
        names(tmp_path, noise=tmp_path)


def test_the_same_seed_synthesises_the_same(tmp_path):
    for name in "ab":
        names(tmp_path / name, "synthesised")
    for kind in ("noise", "rir"):
        first, second = (
            sorted((tmp_path / name / f"synthesised_{kind}").iterdir())
            for name in "ab"
        )
        assert soundfile.info(first[0]).samplerate == 8000
        first, second = ([p.read_bytes() for p in x] for x in (first, second))
        assert len(set(first)) == 50 and first == second
