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
