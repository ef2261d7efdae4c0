"""A SpeechBrain to export onto, and how the tests run what is there.

The installed one has no recipes: SPEECHBRAIN_CHECKOUT=/path tells of those.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import export
import pytest

import speechbrain

GIVEN = os.environ.get("SPEECHBRAIN_CHECKOUT")
needs_recipes = pytest.mark.skipif(not GIVEN, reason="there is no checkout")
# What does not edit a recipe
PURE = export.SERIES[:3]
# What the unit tests ask of SpeechBrain's own conftest.py
DEVICE = """
import pytest


@pytest.fixture
def device():
    return "cpu"
"""
VOXCELEB = "recipes/VoxCeleb/SpeakerRec"
CNCELEB = "recipes/CNCeleb/SpeakerRec"
TINY = "--embedding_model={channels: [8, 8, 8, 8, 24], attention_channels: 8}"


def checkout(folder):
    """The installed SpeechBrain, with recipes where they are."""
    # With the byte code, which need not be compiled again
    shutil.copytree(Path(speechbrain.__file__).parent, folder / "speechbrain")
    if GIVEN:
        stock_recipes(folder)
    else:
        (folder / "conftest.py").write_text(DEVICE)
    return folder


def stock_recipes(folder):
    """What SpeechBrain's checkout has besides the package."""
    archive = subprocess.run(
        ["git", "-C", GIVEN, "archive", "HEAD", "README.md", "LICENSE"]
        + ["conftest.py", "recipes/VoxCeleb", "tests/recipes", "tests/utils"],
        check=True,
        stdout=subprocess.PIPE,
    )
    subprocess.run(["tar", "x"], cwd=folder, input=archive.stdout, check=True)


def run(tree, *arguments, python=sys.executable):
    """What a command of the tree says."""
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=1800,  # a hang, not a slow machine
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-5000:]
    return said
