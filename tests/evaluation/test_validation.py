"""The error rate over all pairs of the validation utterances."""

from speechbrain_scl.evaluation.validation import _spread


def test_large_validation_sets_are_spread_over_the_speakers():
    kept = _spread(["a", "a", "a", "b", "c", "c"], 4)
    assert kept == [0, 3, 4, 1]
