"""One SpeechBrain with the series, for all tests of them."""

import pytest
from commands import ROOT
from upstream_tree import GIVEN, PURE, checkout, export
from warm_start import warm_runs


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """With all series that fit."""
    tree = checkout(tmp_path_factory.mktemp("speechbrain"))
    for series in export.SERIES if GIVEN else PURE:
        export.export(tree, series, "Ada Lovelace 2026")
    return tree


@pytest.fixture(scope="session")
def run_tree(tree, tmp_path_factory):
    """Runs a script of a recipe there; returns what it says."""
    said = tmp_path_factory.mktemp("said")
    with warm_runs(said, PYTHONPATH=f"{tree}:{ROOT}") as run_there:

        def run(script, *options):
            done = run_there(script, *options, folder=script.parent)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout + done.stderr

        yield run
