"""Resampled speakers against trials that are really repeated."""

import numpy as np
import pytest

from speechbrain_scl.evaluation.bootstrap import bootstrap
from speechbrain_scl.evaluation.metrics import eer, min_dcf


def made_up(n_speakers, n_trials, decimals, seed=0):
    """Scores that depend on the speaker, as they do; rounded: with ties."""
    rng = np.random.default_rng(seed)
    enrol, test = rng.integers(0, n_speakers, (2, n_trials))
    labels = enrol == test
    bias = rng.normal(size=n_speakers)
    scores = 2 * labels + bias[enrol] + rng.normal(size=n_trials)
    return scores.round(decimals), labels, enrol, test


@pytest.mark.parametrize("decimals", [0, 1, 8])
# All resamples of all trials at once, or few of each
@pytest.mark.parametrize("few", [False, True])
def test_a_resample_repeats_its_trials(decimals, few, monkeypatch):
    if few:
        monkeypatch.setattr("speechbrain_scl.evaluation.bootstrap._CELLS", 999)
        monkeypatch.setattr("speechbrain_scl.evaluation.bootstrap._EXACT", 200)
    scores, labels, enrol, test = made_up(6, 300, decimals)
    rates, costs = bootstrap(
        scores, labels, enrol, test, 20, p_target=0.1, seed=3
    )
    rng = np.random.default_rng(3)
    for rate, cost in zip(rates, costs):
        drawn = rng.integers(0, 6, 6).tolist()
        times = [
            drawn.count(e) * (1 if e == t else drawn.count(t))
            for e, t in zip(enrol, test)
        ]
        repeated = scores.repeat(times), labels.repeat(times)
        assert rate == pytest.approx(eer(*repeated)[0], abs=1e-12)
        assert cost == pytest.approx(min_dcf(*repeated, 0.1)[0], abs=1e-12)


def test_systems_are_resampled_alike():
    scores, *others = made_up(8, 3000, 8)
    rates, costs = bootstrap(np.stack([scores, np.exp(scores)]), *others, 50)
    assert np.array_equal(rates[0], rates[1])
    assert np.array_equal(costs[0], costs[1])


def test_a_resample_without_both_classes_is_nan():
    rates, costs = bootstrap([1.0, 0.0], [1, 0], [0, 0], [0, 1], 40)
    assert np.isnan(rates).any() and not np.isnan(rates).all()
    assert np.array_equal(np.isnan(rates), np.isnan(costs))
