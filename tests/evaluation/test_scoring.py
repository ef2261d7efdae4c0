"""Scores against a loop over trials."""

import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import scoring


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


# One product for many trials of a pair, inner products one by one for few
@pytest.mark.parametrize("dense", [0, 1000])
@pytest.mark.parametrize("block", [24, 2**22])
def test_cosine_of_each_trial(rng, monkeypatch, dense, block):
    monkeypatch.setattr(scoring, "_MOST_UNUSED_PER_TRIAL", dense)
    monkeypatch.setattr(scoring, "_BLOCK", block)
    enrol, test = rng.normal(size=(5, 8)), rng.normal(size=(7, 8)) * 100
    e, t = rng.integers(0, 5, 40), rng.integers(0, 7, 40)
    wanted = [cosine(enrol[i], test[j]) for i, j in zip(e, t)]
    np.testing.assert_allclose(scoring.cosine_scores(enrol, test, e, t), wanted)


@pytest.mark.parametrize("top_n", [None, 3, 20])
def test_every_normalisation(rng, top_n, monkeypatch):
    monkeypatch.setattr(scoring, "_BLOCK", 40)  # two embeddings at a time
    vectors, cohort = rng.normal(size=(6, 4)), rng.normal(size=(20, 4))
    vectors, cohort = scoring.unit(vectors), scoring.unit(cohort)
    mean, std = scoring.cohort_statistics(vectors, cohort, top_n)
    for i, vector in enumerate(vectors):
        against = sorted(cosine(vector, c) for c in cohort)[-(top_n or 20) :]
        assert mean[i] == pytest.approx(np.mean(against))
        assert std[i] == pytest.approx(np.std(against, ddof=1))
    e, t = np.array([0, 1, 2]), np.array([3, 4, 5])
    raw = scoring.cosine_scores(vectors, vectors, e, t)
    sides = [(mean[e], std[e]), (mean[t], std[t])]
    z = (raw - mean[e]) / std[e]
    t_norm = (raw - mean[t]) / std[t]
    for method, wanted in (
        ("none", raw),
        ("z-norm", z),
        ("t-norm", t_norm),
        ("s-norm", (z + t_norm) / 2),
        ("as-norm", (z + t_norm) / 2),
    ):
        found = scoring.normalize_scores(raw, *sides, method)
        np.testing.assert_allclose(found, wanted)


def test_mistakes(rng):
    vectors = rng.normal(size=(3, 4))
    for cohort, top_n, message in (
        (vectors, 4, "3 members, but top_n=4"),
        *((vectors, n, "at least 2") for n in (1, 0, -3, 2.5, "10")),
        (vectors[:, :2], None, "must be of one model"),
        (vectors[0], None, "must be of one model"),
        (vectors[[0, 0, 0]], None, "all score alike"),
    ):
        with pytest.raises(UserError, match=message):
            scoring.cohort_statistics(vectors, cohort, top_n)
    with pytest.raises(UserError, match="'snorm'"):
        scoring.normalize_scores(np.ones(1), None, None, "snorm")


def test_a_mean_with_crops_keeps_both_scores(rng):
    whole = scoring.unit(rng.normal(size=(4, 8)))  # three to enrol, one to test
    crops = rng.normal(size=(4, 5, 8))
    crops /= np.linalg.norm(crops, axis=-1, keepdims=True)
    vectors = np.concatenate([whole, crops.mean(1)], axis=1) / np.sqrt(2)
    model = scoring.mean_embedding(vectors[:3], crops=True)
    wanted = (
        cosine(whole[:3].mean(0), whole[3])
        + np.mean([a @ b for c in crops[:3] for a in c for b in crops[3]])
    ) / 2
    assert model @ vectors[3] == pytest.approx(wanted)
