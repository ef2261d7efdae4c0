"""The two means of the enrolment benchmark."""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import enrolment as benchmark  # noqa: E402

OF_SPEAKER = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]}


def directions(**angles):
    """Unit vectors in a plane, by degrees."""
    radians = {name: np.deg2rad(angle) for name, angle in angles.items()}
    return {n: np.array([np.cos(x), np.sin(x)]) for n, x in radians.items()}


def test_where_lengths_are_equal_the_means_are():
    vectors = directions(a1=0, a2=20, a3=60, b1=50, b2=80, b3=90)
    found = benchmark.compare(vectors, OF_SPEAKER, 2)
    assert found["unit vectors"] == found["as they are"]


def test_only_the_raw_mean_follows_a_long_outlier():
    vectors = directions(a1=0, a2=80, a3=30, b1=90, b2=80, b3=95)
    vectors["a2"] *= 1000
    found = benchmark.compare(vectors, OF_SPEAKER, 2)
    assert found["unit vectors"][0] == 0 < found["as they are"][0]
