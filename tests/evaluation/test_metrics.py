"""Error rates against counting, against the dual of the hull, and scikit-learn;
resampled speakers against trials that are really repeated."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.bootstrap import bootstrap
from speechbrain_scl.evaluation.metrics import (
    Counts,
    act_dcf,
    cllr,
    eer,
    eer_rocch,
    min_cllr,
    min_dcf,
)


@st.composite
def scored(draw):
    """Scores with ties, and both kinds of labels."""
    n = draw(st.integers(2, 40))
    values = st.integers(-5, 5).map(lambda x: x / 4)
    scores = draw(st.lists(values, min_size=n, max_size=n))
    labels = draw(st.lists(st.booleans(), min_size=n - 2, max_size=n - 2))
    return np.array(scores), np.array([True, False, *labels])


@settings(max_examples=50)
@given(scored())
def test_error_rates(trials):
    scores, labels = trials
    miss, false_alarm, thresholds = Counts.of(scores, labels).rates
    for m, f, t in zip(miss, false_alarm, thresholds):
        assert m == pytest.approx((scores[labels] < t).mean())
        assert f == pytest.approx((scores[~labels] >= t).mean())
    # The dual: max over weights c of min over thresholds of c miss + (1 - c) fa
    c = np.linspace(0, 1, 4001)[:, None]
    wanted = (c * miss + (1 - c) * false_alarm).min(1).max()
    hull = eer_rocch(scores, labels)
    assert hull == pytest.approx(wanted, abs=5e-4)
    # Where the ROC of scikit-learn meets the diagonal
    false_alarm, hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = 1 - hit - false_alarm  # falls from 1 to -1
    end = np.flatnonzero(gap <= 0)[0]
    share = gap[end - 1] / (gap[end - 1] - gap[end])
    low, high = false_alarm[end - 1], false_alarm[end]
    rate = eer(scores, labels)[0]
    assert rate == pytest.approx(low + share * (high - low), abs=1e-9)
    assert hull <= min(rate, 0.5) + 1e-12
    # Swapped labels are no longer chance.
    assert eer(-scores, labels)[0] == pytest.approx(1 - rate, abs=1e-9)


@settings(max_examples=50)
@given(scored(), st.floats(0.001, 0.99))
def test_costs(trials, p):
    scores, labels = trials

    def cost(accepted, c_miss=1):
        miss, false_alarm = (~accepted[labels]).mean(), accepted[~labels].mean()
        cost = p * c_miss * miss + (1 - p) * false_alarm
        return cost / min(p * c_miss, 1 - p)

    wanted = min(cost(scores >= t, 2) for t in [*scores, np.inf])
    assert min_dcf(scores, labels, p, c_miss=2)[0] == pytest.approx(wanted)
    found = act_dcf(scores, labels, p)
    assert found == pytest.approx(cost(scores >= np.log((1 - p) / p)))
    assert found >= min_dcf(scores, labels, p)[0] - 1e-12
    # Pooled adjacent violators give the best ratios.
    pooled = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels)
    prior = labels.mean()
    with np.errstate(divide="ignore"):
        odds = pooled / (1 - pooled) * (1 - prior) / prior
        wanted = (
            np.log2(1 + 1 / odds[labels]).mean()
            + np.log2(1 + odds[~labels]).mean()
        ) / 2
    assert min_cllr(scores, labels) == pytest.approx(wanted, abs=1e-9)


def test_torch_gives_the_same():
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.5
    scores = torch.tensor(rng.normal(size=500) + labels)
    wanted = eer(scores.numpy(), labels)
    assert eer(scores, torch.tensor(labels)) == wanted
    coarse = scores.bfloat16()  # numpy has no such numbers
    assert eer(coarse, labels) == eer(coarse.float(), labels)


def test_perfect_and_useless_scores():
    assert eer([0.0, 1.0], [0, 1])[0] == min_dcf([0.0, 1.0], [0, 1])[0] == 0
    assert eer([1.0, 1.0], [0, 1])[0] == 0.5
    cost, threshold = min_dcf([1.0, 1.0], [0, 1])
    # Rejecting all is a threshold that a report can hold, not infinity.
    assert cost == 1 and 1.0 < threshold < 1.001


@pytest.mark.parametrize("measure", [eer, min_dcf])
@pytest.mark.parametrize(
    "scores, labels, message",
    [
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 0.2], [1, 1], "0 impostor"),
        ([0.1, 0.2], [0, 0], "0 target"),
        ([0.1], [0, 1], "equally long"),
    ],
)
def test_silent_errors_of_the_stock_recipe(scores, labels, message, measure):
    with pytest.raises(UserError, match=message):
        measure(scores, labels)


def test_cllr_of_true_ratios_cannot_be_calibrated_further():
    # Targets N(m, 1), impostors N(-m, 1): the log-likelihood ratio is 2 m x.
    rng = np.random.default_rng(0)
    labels = rng.random(40_000) < 0.3
    x = rng.normal(size=40_000) + np.where(labels, 1.0, -1.0)
    assert cllr(2 * x, labels) == pytest.approx(min_cllr(x, labels), abs=5e-3)
    assert cllr(6 * x, labels) > min_cllr(x, labels) + 0.1
    assert cllr(2 * x + 3, labels) > min_cllr(x, labels) + 0.1
    # Far away the logarithm must not overflow.
    assert np.isfinite(cllr(1e4 * x, labels))


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
    given = labels, enrol, test, 20, 0.1, 3
    rates, costs = bootstrap(scores, *given)
    # Systems are resampled alike.
    both, _ = bootstrap(np.stack([scores, np.exp(scores)]), *given)
    assert np.array_equal(*both) and np.array_equal(both[0], rates)
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


def test_a_resample_without_both_classes_is_nan():
    rates, costs = bootstrap([1.0, 0.0], [1, 0], [0, 0], [0, 1], 40)
    assert np.isnan(rates).any() and not np.isnan(rates).all()
    assert np.array_equal(np.isnan(rates), np.isnan(costs))
