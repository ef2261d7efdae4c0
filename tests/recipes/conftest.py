"""A tiny corpus, and the recipe's scripts as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speechbrain_scl.corpora.mini import make_mini_corpus

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "SpeakerRec"
sys.path.insert(0, str(ROOT / "recipes" / "VoxCeleb"))


SMALL = [
    "../../../hparams/ecapa_small.yaml",
    "--number_of_epochs=2",
    "--valid_speakers=2",
    "--speakers_per_batch=4",
    "--sentence_len=0.5",
    "--valid_len=0.5",
    "--embedding_model={channels: [16, 16, 16, 16, 48], attention_channels: 8}",
]
LISTS = ("trials-same-language", "trials-cross-language")


def trial_option(corpus, key, lists=LISTS):
    """The corpus's own lists as an option of the command line."""
    paths = ", ".join(str(corpus / f"{name}.txt") for name in lists)
    return f"--{key}=[{paths}]"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Six training and four test speakers of espeak-ng."""
    folder = tmp_path_factory.mktemp("corpus") / "mini"
    make_mini_corpus(
        str(folder), n_train=6, n_test=4, utterances_per_language=1, seed=1
    )
    return folder


@pytest.fixture(scope="session")
def run_script():
    """Runs a script of the recipe folder; returns the finished process."""

    def run(script, *arguments):
        return subprocess.run(
            [sys.executable, script, *map(str, arguments)],
            cwd=RECIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def trained(corpus, run_script, tmp_path_factory):
    """The output folder of a short training."""
    output = tmp_path_factory.mktemp("results") / "train"
    done = run_script(
        "train_speaker_embeddings.py",
        *SMALL,
        f"--data_folder={corpus}",
        f"--output_folder={output}",
        trial_option(corpus, "verification_file"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return output
