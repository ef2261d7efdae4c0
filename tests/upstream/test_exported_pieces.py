"""The exported pieces' own tests, here and with the oldest Python, torch and
scipy that SpeechBrain allows.
"""

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import ROOT
from upstream_tree import export, run

OLDEST = os.environ.get("OLDEST_PYTHON", ROOT / "build/oldest/bin/python")


def run_exported_tests(tree, python):
    """The unit tests and examples of the exported modules."""
    said = run(
        tree,
        *["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull],
        *["--rootdir", tree, "--doctest-modules", "tests/unittests"],
        *export.PIECES,
        "speechbrain/dataio/sampler.py",
        python=python,
    )
    assert " passed" in said and "skipped" not in said


def test_the_exported_tests_and_examples_pass(tree):
    run_exported_tests(tree, sys.executable)


@pytest.mark.skipif(
    not Path(OLDEST).is_file(), reason="CONTRIBUTING tells how to make it"
)
def test_they_pass_with_the_oldest_of_everything(tree, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tree, old, symlinks=True)
    for path in (old / "speechbrain").rglob("*.py"):
        defer_annotations(path)
    run_exported_tests(old, OLDEST)


def defer_annotations(path):
    """SpeechBrain declares Python 3.8, but some of its modules have
    annotations that can be evaluated from 3.9 or 3.10 on only."""
    lines = path.read_text().splitlines(keepends=True)
    body = ast.parse("".join(lines)).body
    first = body[0] if body else None
    is_docstring = isinstance(first, ast.Expr)
    after = first.end_lineno if is_docstring else 0
    lines.insert(after, "from __future__ import annotations\n")
    path.write_text("".join(lines))
