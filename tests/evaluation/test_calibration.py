"""Calibration against the cross-entropy, minimised by scipy."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import (
    Calibration,
    calibrate,
    calibration_trials,
    fit_calibration,
)


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.2
    return 0.1 * rng.normal(size=20_000) + 0.2 * labels, labels


@pytest.mark.parametrize("by_duration", [False, True])
@pytest.mark.parametrize("p", [0.01, 0.5])
def test_it_minimises_the_weighted_cross_entropy(trials, p, by_duration):
    scores, labels = trials
    prior = np.log(p / (1 - p))
    seconds = np.exp(np.random.default_rng(1).normal(1, 0.7, len(scores)))
    scores = scores + by_duration * 0.1 * labels * np.log(seconds)
    inputs = [scores, np.log(seconds)][: 1 + by_duration]

    def loss(parameters):
        odds = parameters[1:] @ inputs + parameters[0] + prior
        return (
            p * np.logaddexp(0, -odds[labels]).mean()
            + (1 - p) * np.logaddexp(0, odds[~labels]).mean()
        )

    start = [0.0, 10.0, 0.0][: 2 + by_duration]
    offset, *wanted = minimize(loss, start, tol=1e-12).x
    given = {"seconds": seconds} if by_duration else {}
    found = fit_calibration(scores, labels, p, **given)
    slopes = [found.scale, found.scale * found.duration][: 1 + by_duration]
    assert slopes == pytest.approx(wanted, rel=2e-3)
    assert found.offset == pytest.approx(offset, rel=2e-3)
    # The decision at one duration is that of the ratio.
    ratio = wanted @ np.array(inputs)[:, 0] + offset
    assert found(scores[0], seconds[0]) == pytest.approx(ratio, rel=1e-2)
    threshold, *_ = found.operating_point(p, seconds[0])
    assert found(threshold, seconds[0]) == pytest.approx(-prior)
    # Separable scores give finite ratios, too.
    low, high = fit_calibration([0.1, 0.9], [0, 1], 0.5)(np.array([0.1, 0.9]))
    assert -np.inf < low < -2 and 2 < high < np.inf


def test_it_is_kept_as_json(tmp_path):
    found = Calibration(2.5, -1.0, 0.01, 100, "mine")
    path = tmp_path / "calibration.json"
    found.save(path)
    assert Calibration.load(path) == Calibration.load(path, "mine") == found
    with pytest.raises(UserError, match="there is no such"):
        Calibration.load(tmp_path / "gone.json")
    for text in ('{"scale": 1}', '{"trials": {}}', "[1]", "<html>"):
        path.write_text(text)
        with pytest.raises(UserError, match="calibration.json: not the cal"):
            Calibration.load(path)
    for key, values in (
        ("scale", [math.nan, math.inf, 0, -20.0, None, "20", [20.0], True]),
        ("offset", [-math.inf, None]),
        ("duration", [math.nan, "1"]),
        ("p_target", [1, "0.01"]),
        ("n_trials", [None]),
        ("model", [5]),
        ("scores", [None]),
        ("thresholds", [[0.1]]),
        ("miss", [[math.nan]]),
        ("false_alarm", [0.5]),
    ):
        for value in values:
            wrong = {**dataclasses.asdict(found), key: value}
            path.write_text(json.dumps(wrong))
            with pytest.raises(UserError, match=f"{path}: .*{key}="):
                Calibration.load(path)


def test_pairs_are_all_or_all_targets_and_a_draw():
    speakers = np.array(list("aabbbcdd"))
    for n_max, n in ((28, 28), (4, 5 + 4)):
        first, second, labels = calibration_trials(speakers, n_max=n_max)
        assert len(labels) == n and labels.sum() == 1 + 3 + 1
        assert np.array_equal(labels, speakers[first] == speakers[second])


@pytest.mark.parametrize("gap", [0.1, 0.6, 0.8])
@pytest.mark.parametrize("n", [60, 20_000])
def test_small_error_rates_are_counted_not_drawn_in_a_line(gap, n):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 20 == 0
    scores = 0.1 * rng.normal(size=n) + gap * labels
    calibration = fit_calibration(scores, labels)
    with pytest.raises(UserError, match="p_target=2"):
        calibration.operating_point(2)
    for p in (0.5, 0.1, 0.01, 0.001):
        threshold, miss, false_alarm = calibration.operating_point(p)
        accepted = scores >= threshold
        for said, errors in (
            (miss, ~accepted[labels]),
            (false_alarm, accepted[~labels]),
        ):
            one = 1 / len(errors)
            assert said == pytest.approx(errors.mean(), rel=0.1, abs=one)


def own_pairs(n_speakers, gap=0.5, seed=0):
    """Pairs of a few recordings each: scores that depend on the speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.arange(n_speakers).repeat(4)
    first, second = np.triu_indices(len(speakers), 1)
    sides = np.stack([speakers[first], speakers[second]])
    labels = sides[0] == sides[1]
    bias = 0.1 * rng.normal(size=n_speakers)
    scores = 0.1 * rng.normal(size=len(labels)) + gap * labels
    return scores + bias[sides].mean(0), labels, sides


def test_errors_are_those_of_speakers_that_were_not_fitted():
    """Of many more speakers of the kind, decided by the same threshold."""
    calibration, found = calibrate(*own_pairs(30, gap=0.3), p_target=0.2)
    scores, labels, _ = own_pairs(300, gap=0.3, seed=1)
    at = found["threshold"]
    assert calibration.operating_point(0.2)[0] == at
    for key, errors in (
        ("miss", scores[labels] < at),
        ("false_alarm", scores[~labels] >= at),
    ):
        low, high = found[f"{key}_ci"]
        assert low <= found[key] <= high and low < errors.mean() < high
    assert found["n_speakers"] == 30 and found["remarks"] == []


@pytest.mark.parametrize("n", [5, 12, 30])
def test_no_error_among_few_speakers_is_not_none(n):
    """No wrong one of n: below 1 - 0.025^(1/n)."""
    scores, labels, sides = own_pairs(n, gap=5.0)
    _, found = calibrate(scores, labels, sides.astype(str))
    assert found["miss"] == found["false_alarm"] == 0
    assert found["miss_ci"] == pytest.approx([0, 1 - 0.025 ** (1 / n)])
    assert any("say little about others" in x for x in found["remarks"]) == (
        n < 10
    )


def test_what_cannot_be_calibrated_is_told():
    for scores, labels, message in (
        ([0.1, np.nan], [0, 1], "NaN"),
        ([0.1, 0.1], [0, 1], "all calibration scores are equal"),
        ([0.9, 0.8, 0.1, 0.2], [0, 0, 1, 1], "do not score higher"),
    ):
        with pytest.raises(UserError, match=message):
            fit_calibration(scores, labels)
    with pytest.raises(UserError, match="pairs of 4 speakers: a threshold"):
        calibrate(*own_pairs(4))
    scores, labels, sides = own_pairs(8)
    few = np.r_[np.flatnonzero(labels)[:1], np.flatnonzero(~labels)]
    _, found = calibrate(scores[few], labels[few], sides[:, few])
    assert any("the very pairs" in remark for remark in found["remarks"])
