"""The benchmark of many classes: the same code, small."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import classes  # noqa: E402


@pytest.fixture(scope="module")
def found():
    """In one process, where nothing can be said of peaks."""
    return {
        (n, way): classes.measure(way, n, batch=4, rate=0.1, steps=1)
        for n in (100, 200)
        for way in classes.WAYS
    }


def test_every_way_has_a_cell(found):
    lines = classes.table(found).splitlines()
    assert len(lines) == 4
    assert all(line.count("|") == len(classes.WAYS) + 2 for line in lines)
    assert all(seconds > 0 for seconds, _ in found.values())


def test_both_measures_are_drawn(found):
    for axes in classes.draw(found).axes:
        assert len(axes.lines) == len(classes.WAYS)
        assert all(list(line.get_xdata()) == [100, 200] for line in axes.lines)
