"""Joining short utterances."""

import numpy as np
import pytest
import soundfile
from hypothesis import (
    given,
    strategies as st,
)

from speechbrain_scl.data.joining import group_short, write_joined
from speechbrain_scl.errors import UserError

SECONDS = st.floats(0.1, 12.0)


@given(st.lists(SECONDS, max_size=30), st.floats(0.5, 10.0))
def test_nothing_is_lost_and_groups_are_long_enough(durations, least):
    groups = group_short(durations, least)
    assert sorted(i for group in groups for i in group) == list(
        range(len(durations))
    )
    short = [d for d in durations if d < least]
    for group in groups:
        seconds = sum(durations[i] for i in group)
        assert group == sorted(group)
        # Only where all short ones together are not enough
        assert seconds >= least or len(group) == len(short)
        assert len(group) == 1 or all(durations[i] < least for i in group)


def test_joined_files_are_their_parts_one_after_the_other(tmp_path):
    rng = np.random.default_rng(0)
    parts = []
    for i, n in enumerate((300, 500)):
        path = str(tmp_path / f"{i}.flac")
        soundfile.write(path, rng.integers(-9, 9, n, dtype=np.int16), 16000)
        parts.append(path)
    target = str(tmp_path / "out" / "joined.flac")
    write_joined([(target, parts, 800)])
    signal, rate = soundfile.read(target, dtype="int16")
    assert rate == 16000
    wanted = np.concatenate(
        [soundfile.read(p, dtype="int16")[0] for p in parts]
    )
    assert np.array_equal(signal, wanted)
    # What is there is complete, and not written again.
    write_joined([(target, ["gone.flac"], 800)])
    with pytest.raises(UserError, match="800 samples instead of the 801"):
        write_joined([(f"{target}-2", parts, 801)])
