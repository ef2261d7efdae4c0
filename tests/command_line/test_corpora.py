"""A corpus of one's own: its next commands fit it."""

from speechbrain_scl.command_line.corpora import next_commands


def test_expectations_grow_with_the_speakers():
    said = [
        next_commands({"speakers": n, "test_speakers": 2}, "own")
        for n in (5, 100, 5000)
    ]
    assert "too few" in said[0]
    assert "not for a useful system" in said[1]
    assert len(set(said)) == 3
    assert "cannot be trained on" in said[0]
