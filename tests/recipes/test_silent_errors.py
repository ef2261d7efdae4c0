"""What SpeechBrain's recipe gets wrong without a word, told or put right."""

import itertools
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch
from commands import ROOT

from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.audio import find_audio
from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.data.names import locate
from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.evaluation import plots, results, verification
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.training.data import dataio_prep


def noise(path, rate=16000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = 0.1 * np.random.default_rng(seed).normal(size=rate)
    soundfile.write(path, signal, rate)
    return str(path)


def test_another_model_in_the_same_folders_gives_other_scores(
    untrained, tmp_path
):
    source = shutil.copytree(untrained, tmp_path / "inference")
    path = source / "embedding_model.ckpt"
    wav = torch.randn(1, 16000)
    found, keys = [], set()
    for factor in (1, 2):  # trained anew in the same place
        state = torch.load(path, weights_only=True)
        state["fc.conv.bias"] += factor
        torch.save(state, path)
        encoder = load_encoder(str(source), str(tmp_path / "output"))
        found.append(encoder(wav))
        keys.add(encoder.key)  # what the cache of embeddings goes by
    assert not torch.allclose(*found, atol=1e-3)
    assert len(keys) == 2


def test_files_come_in_one_order(tmp_path, monkeypatch):
    """However the system lists them: here from the last name to the first."""
    paths = [noise(tmp_path / s / "1.wav") for s in ("b", "a", "c", "10", "9")]
    walked = list(os.walk(tmp_path))
    walked.sort(reverse=True)
    monkeypatch.setattr(os, "walk", lambda *_, **how: walked)
    assert find_audio(tmp_path) == sorted(paths)


def test_validation_hears_the_same_in_every_epoch(tmp_path):
    path = noise(tmp_path / "a.wav")
    rows = [Utterance("a", 1.0, path, 0, 16000, "ann")]
    for name in ("train", "valid"):
        write_manifest(tmp_path / f"{name}.csv", rows)
    epochs = EpochCounter(limit=5)
    train, valid, *_ = dataio_prep(
        {
            "train_annotation": str(tmp_path / "train.csv"),
            "valid_annotation": str(tmp_path / "valid.csv"),
            "save_folder": str(tmp_path),
            "sample_rate": 16000,
            "sentence_len": 0.2,
            "valid_len": 0.2,
            "speeds": [1.0],
            "seed": 1,
            "epoch_counter": epochs,
        }
    )
    heard = [(train[0]["sig"], valid[0]["sig"]) for _ in epochs]
    assert all(torch.equal(heard[0][1], later) for _, later in heard)
    assert not all(torch.equal(heard[0][0], later) for later, _ in heard)


def verification_of_noise(folder, *options):
    """The verification of two trials, as read from the command line."""
    for seed, name in enumerate("ab"):
        noise(folder / "wav" / name / "1" / "1.wav", seed=seed)
    (folder / "trials.txt").write_text("1 a/1/1 a/1/1\n0 a/1/1 b/1/1\n")
    return read_experiment(
        [
            str(ROOT / "hparams" / "verification_small.yaml"),
            f"--data_folder={folder}",
            f"--verification_file={folder / 'trials.txt'}",
            f"--output_folder={folder}",
            *options,
        ]
    )[:2]


def test_the_figures_come_before_the_pictures(tmp_path, untrained, monkeypatch):
    """A picture that fails loses nothing that took hours."""

    options = verification_of_noise(tmp_path, f"--pretrain_path={untrained}")
    monkeypatch.setattr(plots, "det", None)
    with pytest.raises(TypeError):
        verification.verify(*options)
    done = json.loads((tmp_path / "metrics.json").read_text())
    assert done["trials"]["trials"]["eer"] == 0


@pytest.mark.parametrize("asked, used", [(None, "cuda:0"), ("cpu", "cpu")])
def test_a_gpu_is_used_where_there_is_one(tmp_path, monkeypatch, asked, used):
    device = [f"--device={asked}"] if asked else []
    options = verification_of_noise(tmp_path, "--pretrain_path=x", *device)
    asked_for = []
    monkeypatch.setattr(verification, "infer_device", lambda: "cuda:0")
    monkeypatch.setattr(
        verification, "load_encoder", lambda *found: asked_for.extend(found)
    )
    with pytest.raises(AttributeError):  # there is no encoder
        verification.verify(*options)
    assert used in asked_for


def test_comma_separated_data_folders(tmp_path):
    roots = [tmp_path / "dev", tmp_path / "test"]
    paths = [noise(roots[i] / "wav" / f"{i}.wav") for i in (0, 1)]
    folders = as_list(f"{roots[0]}, {roots[1]}", "data_folder")
    found = locate(["0.wav", "1.wav"], folders, "trials.txt")
    assert found == dict(zip(["0.wav", "1.wav"], paths))


@pytest.mark.parametrize("n_speakers", [2, FEWEST_TEST_SPEAKERS])
def test_the_table_says_what_to_doubt(tmp_path, n_speakers):
    pairs = itertools.product(range(n_speakers), repeat=2)
    lines = [f"{int(a == b)} {a}/1 {b}/2\n" for a, b in pairs]
    (tmp_path / "trials.txt").write_text("".join(lines))
    trials = read_trials(str(tmp_path / "trials.txt"))

    def measured(scores):
        scored = trials.with_scores(scores)
        found, _ = results.measure(scored, lambda name: name.split("/")[0])
        return found, results.table({"list": found})

    noise = np.random.default_rng(0).normal(size=len(lines))
    found, said = measured(trials.labels + noise)
    enough = n_speakers == FEWEST_TEST_SPEAKERS
    assert (found["eer_ci"] is not None) == enough
    assert (f"no interval: {n_speakers} test speakers" in said) != enough
    # Labels the wrong way round are pointed out, not told as a bad EER.
    hint = "targets score lower than impostors"
    assert hint not in said
    found, said = measured(-10.0 * trials.labels)
    assert found["eer"] == 1 and hint in said
