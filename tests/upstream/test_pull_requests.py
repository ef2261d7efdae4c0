"""CONTRIBUTING's commands and the pull requests' texts.

SPEECHBRAIN_CHECKOUT=/path runs the commands on a clone of it, for each series,
and the recipe of VoxCeleb with its own preparation and verification.
"""

import os
import re
import shutil
import subprocess

import pytest
from commands import ROOT
from upstream_tree import TINY, VOXCELEB, export, run, train

GIVEN = os.environ.get("SPEECHBRAIN_CHECKOUT")
needs_checkout = pytest.mark.skipif(not GIVEN, reason="no checkout is given")


def contributing():
    """The commands of CONTRIBUTING's section on this."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## The pull requests against SpeechBrain")[1]
    return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]


def test_contributing_names_every_series_and_text():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for series in export.SERIES:
        assert f"`upstream/{series}.md`" in text
        assert (ROOT / "upstream" / f"{series}.md").is_file()
    assert "export.py build/speechbrain --series losses" in contributing()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Where the commands are typed; the series share the environment."""
    return tmp_path_factory.mktemp("contributing")


@needs_checkout
@pytest.mark.parametrize("series", export.SERIES)
def test_contributings_commands(series, workplace):
    commands = contributing()
    for old, new in (
        (
            "--branch develop https://github.com/speechbrain/speechbrain",
            os.path.abspath(GIVEN),
        ),
        ("--series losses", f"--series {series}"),
        ("upstream/export.py", str(ROOT / "upstream" / "export.py")),
    ):
        assert commands.count(old) == 1
        commands = commands.replace(old, new)
    shutil.rmtree(workplace / "build" / "speechbrain", ignore_errors=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=workplace,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


@needs_checkout
def test_voxceleb_is_prepared_trained_and_verified(corpus, tmp_path):
    tree = tmp_path / "speechbrain"
    subprocess.run(["git", "clone", "-q", GIVEN, tree], check=True)
    export.write(export.planned(tree, "voxceleb"))
    trials = corpus / "trials-same-language.txt"
    trained = train(
        tree / VOXCELEB,
        corpus,
        tmp_path,
        next(corpus.rglob("*.wav")),
        f"--verification_file={trials}",
        "--out_n_neurons=6",
    )
    run(
        tree,
        tree / VOXCELEB / "speaker_verification_cosine.py",
        tree / VOXCELEB / "hparams" / "verification_ecapa.yaml",
        TINY,
        f"--data_folder={corpus}",
        f"--verification_file={trials}",
        f"--output_folder={tmp_path / 'verified'}",
        f"--pretrain_path={trained / 'save'}",
        "--cohort_size=2",
    )
    assert "EER(%)=" in (tmp_path / "verified" / "log.txt").read_text()
    scores = (tmp_path / "verified" / "scores.txt").read_text()
    assert len(scores.splitlines()) == len(trials.read_text().splitlines())
