"""Error rates against counting, against the dual of the hull, and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import (
    act_dcf,
    cllr,
    eer,
    eer_rocch,
    error_rates,
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


@given(scored())
@settings(max_examples=200, deadline=None)
def test_rates_are_counts(trials):
    scores, labels = trials
    miss, false_alarm, thresholds = error_rates(scores, labels)
    for m, f, t in zip(miss, false_alarm, thresholds):
        assert m == pytest.approx((scores[labels] < t).mean())
        assert f == pytest.approx((scores[~labels] >= t).mean())


@given(scored())
@settings(max_examples=200, deadline=None)
def test_eer_is_the_dual_of_the_convex_hull(trials):
    """max over weights c of min over thresholds of c miss + (1 - c) fa."""
    scores, labels = trials
    miss, false_alarm, _ = error_rates(scores, labels)
    c = np.linspace(0, 1, 4001)[:, None]
    wanted = (c * miss + (1 - c) * false_alarm).min(1).max()
    found = eer_rocch(miss, false_alarm)
    assert found == pytest.approx(wanted, abs=5e-4)
    assert found <= min(eer(scores, labels)[0], 0.5) + 1e-12


@given(scored())
@settings(max_examples=200, deadline=None)
def test_eer_is_where_the_roc_of_scikit_learn_meets_the_diagonal(trials):
    scores, labels = trials
    false_alarm, hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = 1 - hit - false_alarm  # falls from 1 to -1
    end = np.flatnonzero(gap <= 0)[0]
    share = gap[end - 1] / (gap[end - 1] - gap[end])
    low, high = false_alarm[end - 1], false_alarm[end]
    assert eer(scores, labels)[0] == pytest.approx(
        low + share * (high - low), abs=1e-9
    )
    # Swapped labels are no longer chance.
    assert eer(-scores, labels)[0] == pytest.approx(
        1 - eer(scores, labels)[0], abs=1e-9
    )


@given(scored(), st.sampled_from([0.001, 0.01, 0.5, 0.9]))
@settings(max_examples=100, deadline=None)
def test_min_dcf_tries_every_threshold(trials, p):
    scores, labels = trials
    wanted = min(
        (
            p * 2 * (scores[labels] < t).mean()
            + (1 - p) * (scores[~labels] >= t).mean()
        )
        / min(2 * p, 1 - p)
        for t in [*scores, np.inf]
    )
    assert min_dcf(scores, labels, p, c_miss=2)[0] == pytest.approx(wanted)


def test_any_increasing_map_of_the_scores_changes_nothing():
    rng = np.random.default_rng(1)
    labels = rng.random(500) < 0.5
    scores = rng.normal(size=500) + labels
    assert eer(scores, labels)[0] == eer(np.exp(scores), labels)[0]
    assert eer(torch.tensor(scores), torch.tensor(labels)) == eer(
        scores, labels
    )
    # numpy has no such numbers.
    coarse = torch.tensor(scores, dtype=torch.bfloat16)
    assert eer(coarse, labels) == eer(coarse.float(), labels)


def test_perfect_and_useless_scores():
    assert eer([0.0, 1.0], [0, 1])[0] == 0
    assert min_dcf([0.0, 1.0], [0, 1])[0] == 0
    assert eer([1.0, 1.0], [0, 1])[0] == 0.5
    cost, threshold = min_dcf([1.0, 1.0], [0, 1])
    # Rejecting all is a threshold that a report can hold, not infinity.
    assert cost == 1 and 1.0 < threshold < 1.001


def test_points_on_one_line_do_not_take_turns():
    """Three corners of a real list that differ from a line by 4e-19."""
    miss = [
        0.0,
        0.09142857142857143,
        0.10373626373626374,
        0.11384615384615385,
        1.0,
    ]
    false_alarm = [
        0.7292477302204929,
        0.09987029831387806,
        0.09079118028534372,
        0.08333333333333337,
        0.0,
    ]
    rate = eer_rocch(np.array(miss), np.array(false_alarm))
    slope = (miss[1] - miss[3]) / (false_alarm[1] - false_alarm[3])
    on_line = (miss[1] - slope * false_alarm[1]) / (1 - slope)
    assert rate == pytest.approx(on_line, rel=1e-9)


@given(st.integers(1, 10**6), st.lists(st.floats(0, 1), max_size=30))
def test_a_straight_roc(slope, places):
    """miss = 1 - slope x for x below 1/slope, then 0: EER 1/(1 + slope)."""
    x = np.sort([0.0, 1.0, 1 / slope, *places])[::-1]
    rate = eer_rocch(np.maximum(1 - slope * x, 0), x)
    assert rate == pytest.approx(1 / (1 + slope), rel=1e-6)


@pytest.mark.parametrize(
    "scores, labels, message",
    [
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, 0.2], [1, 1], "0 impostor"),
        ([0.1, 0.2], [0, 0], "0 target"),
        ([0.1], [0, 1], "equally long"),
    ],
)
def test_silent_errors_of_the_stock_recipe_are_refused(scores, labels, message):
    with pytest.raises(UserError, match=message):
        eer(scores, labels)
    with pytest.raises(UserError, match=message):
        min_dcf(scores, labels)


@given(scored(), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_actual_cost_counts_the_bayes_decisions(trials, p):
    llrs, labels = trials
    accepted = llrs >= np.log((1 - p) / p)
    wrong = p * (~accepted[labels]).mean() + (1 - p) * accepted[~labels].mean()
    found = act_dcf(llrs, labels, p)
    assert found == pytest.approx(wrong / min(p, 1 - p))
    assert found >= min_dcf(llrs, labels, p)[0] - 1e-12


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


@given(scored())
@settings(max_examples=100, deadline=None)
def test_min_cllr_is_that_of_pooled_adjacent_violators(trials):
    scores, labels = trials
    posterior = IsotonicRegression(y_min=0, y_max=1).fit_transform(
        scores, labels
    )
    prior = labels.mean()
    with np.errstate(divide="ignore"):
        odds = posterior / (1 - posterior) * (1 - prior) / prior
        wanted = (
            np.log2(1 + 1 / odds[labels]).mean()
            + np.log2(1 + odds[~labels]).mean()
        ) / 2
    assert min_cllr(scores, labels) == pytest.approx(wanted, abs=1e-9)
    assert min_cllr(scores, labels) <= 1 + 1e-12
