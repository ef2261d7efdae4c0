"""CONTRIBUTING's commands and the pull requests' texts.

SPEECHBRAIN_CHECKOUT=/path runs the commands on a clone of it, for each series.
"""

import os
import re
import subprocess

import pytest
from commands import ROOT
from upstream_tree import export


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


@pytest.mark.skipif(
    "SPEECHBRAIN_CHECKOUT" not in os.environ, reason="no checkout is given"
)
@pytest.mark.parametrize("series", export.SERIES)
def test_contributings_commands(series, tmp_path):
    commands = contributing()
    given = os.path.abspath(os.environ["SPEECHBRAIN_CHECKOUT"])
    for old, new in (
        ("--branch develop https://github.com/speechbrain/speechbrain", given),
        ("--series losses", f"--series {series}"),
        ("upstream/export.py", str(ROOT / "upstream" / "export.py")),
    ):
        assert commands.count(old) == 1
        commands = commands.replace(old, new)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
