"""CONTRIBUTING's commands and the pull requests' texts.

SPEECHBRAIN_CHECKOUT=/path runs the commands on a clone of it, for each series.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT
from upstream_tree import GIVEN, export, needs_recipes

# What each needs, as a pull request that was merged
NEEDED = {"voxceleb": "sampler losses"}
NEEDED["cnceleb"] = "metrics sampler losses voxceleb"
# In place of what the recipe tests download
SOUNDS = """for kind in noise rir; do
    mkdir tests/samples/ASR/$kind
    cp tests/samples/noise/noise1.wav tests/samples/ASR/$kind
    touch tests/samples/ASR/$kind/data.zip
done
"""


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


@needs_recipes
@pytest.mark.parametrize("series", export.SERIES)
def test_contributings_commands(series, tmp_path):
    """In this environment instead of a new one."""
    commands = contributing().replace("upstream/", f"{ROOT}/upstream/")
    clone, write = commands.splitlines()[:2]
    before = ""
    if series in NEEDED:
        before = f"""{write.replace("losses", NEEDED[series])}
git -C build/speechbrain add --all
git -C build/speechbrain -c user.name=a -c user.email=a commit -qm a
"""
    install = re.search(r"(?s)python3 -m venv.*pip install -e \.\n", commands)
    for old, new in (
        (clone, f"git clone -q {os.path.abspath(GIVEN)} build/speechbrain"),
        (write, before + write.replace("losses", series)),
        (install[0], "cd build/speechbrain\n"),
        ("python - <<", f"{SOUNDS}python - <<"),
    ):
        assert commands.count(old) == 1
        commands = commands.replace(old, new)
    # The recipe tests set PYTHONPATH anew.
    tree, python = tmp_path / "build" / "speechbrain", tmp_path / "python"
    given = f'PYTHONPATH="{tree}:$PYTHONPATH" exec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{given}\n")
    python.chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
