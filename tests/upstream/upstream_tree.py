"""A SpeechBrain to export onto, and how the tests run what is there."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from commands import ROOT

import speechbrain

sys.path.insert(0, str(ROOT / "upstream"))
import export  # noqa: E402

VOXCELEB = "recipes/VoxCeleb/SpeakerRec"
CNCELEB = export.CNCELEB
TINY = "--embedding_model={channels: [8, 8, 8, 8, 24], attention_channels: 8}"
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance\n"
)
CONFTEST = '''"""As SpeechBrain's."""

import pytest


@pytest.fixture
def device():
    """Where its tests run."""
    return "cpu"
'''


def load(path):
    """A module of a file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout(folder):
    """The installed SpeechBrain, in the shape of a checkout."""
    # With the byte code, which need not be compiled again
    shutil.copytree(Path(speechbrain.__file__).parent, folder / "speechbrain")
    recipe = folder / VOXCELEB
    (recipe / "hparams").mkdir(parents=True)
    (folder / "tests" / "recipes").mkdir(parents=True)
    (folder / "tests" / "recipes" / "VoxCeleb.csv").write_text(COLUMNS)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "README.md").write_text(
        "| Speaker Recognition | [VoxCeleb](recipes/VoxCeleb) | Theirs |\n"
    )
    (recipe / "README.md").write_text(
        "# Theirs\n\n## Speaker verification with PLDA\nTheirs\n"
    )
    (recipe / "voxceleb_prepare.py").write_text('"""Theirs."""\n')
    return folder


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


def train(recipe, corpus, output, sound, *options):
    """Trains a recipe for one epoch, with a sound instead of its downloads;
    returns the output folder."""
    annotation = output / "noise.csv"
    annotation.write_text(
        "ID,duration,wav,wav_format,wav_opts\n"
        f"x,1.0,{sound},{sound.suffix[1:]},\n"
    )
    hparams = recipe / "hparams" / "train_ecapa_tdnn_scl.yaml"
    small = output / "small.yaml"
    small.write_text(
        re.sub(
            r"(?m)^(prepare_\w+_data): .*\n(    .*\n)+",
            r"\1: !name:builtins.dict\n",
            hparams.read_text(),
        )
    )
    run(
        recipe.parents[2],
        recipe / export.SCRIPT,
        small,
        TINY,
        f"--data_folder={corpus}",
        f"--output_folder={output / 'run'}",
        f"--noise_annotation={annotation}",
        f"--rir_annotation={annotation}",
        "--number_of_epochs=1",
        "--sentence_len=0.5",
        "--speakers_per_batch=3",
        "--num_workers=0",
        *options,
    )
    return output / "run"


def written(tree):
    """The Python files of the series, without links."""
    return [
        tree / "speechbrain" / "dataio" / "sampler.py",
        *(tree / piece for piece in export.PIECES.values()),
        *(
            path
            for folder in export.SERIES
            for source in (ROOT / "upstream" / folder).glob("*/**/*.py")
            for path in [tree / source.relative_to(ROOT / "upstream" / folder)]
        ),
    ]
