"""CONTRIBUTING's commands and the pull requests' texts.

SPEECHBRAIN_CHECKOUT=/path runs the commands on a clone of it, for each series.
"""

import os
import re
import shutil
import subprocess

import pytest
from commands import ROOT
from upstream_tree import GIVEN, export, needs_recipes


def contributing():
    """The commands of CONTRIBUTING's section on this."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## The pull requests against SpeechBrain")[1]
    return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]


def test_every_series_has_a_text_in_speechbrains_form():
    contents = (ROOT / "CONTRIBUTING.md").read_text()
    for series in export.SERIES:
        assert f"`upstream/{series}.md`" in contents
        text = (ROOT / "upstream" / f"{series}.md").read_text()
        for part in ("What does this PR do?", "How it was tested", "- [ ] "):
            assert part in text, f"{series}: {part}"
    assert "--series losses" in contributing()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Where the commands are typed; the series share the environment."""
    return tmp_path_factory.mktemp("contributing")


@needs_recipes
@pytest.mark.parametrize(
    "series",
    [*export.SERIES[:3], "sampler losses voxceleb", " ".join(export.SERIES)],
)
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
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=workplace,
        env={k: v for k, v in os.environ.items() if k not in hidden},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
