"""PLDA scores against the two Gaussians that they compare."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.plda import fit_plda, plda_scores

DIM = 6


def voices(n_speakers, n_utterances, seed):
    """Speakers vary in two dimensions, sessions strongly in two others."""
    rng = np.random.default_rng(seed)
    between = np.diag([1.0, 0.8, 0.1, 0.1, 0.1, 0.1])
    within = np.diag([0.3, 0.3, 2.0, 1.5, 0.2, 0.2])
    means = rng.normal(size=(n_speakers, DIM)) @ between + 0.5
    noise = rng.normal(size=(n_speakers * n_utterances, DIM)) @ within
    speakers = np.arange(n_speakers).repeat(n_utterances)
    return means[speakers] + noise, speakers.astype(str).tolist()


@pytest.fixture(scope="module")
def model():
    return fit_plda(*voices(300, 8, seed=0), rank=3)


def test_scores_are_log_likelihood_ratios(model):
    vectors, _ = voices(10, 3, seed=1)
    rng = np.random.default_rng(2)
    enrol_index, test_index = rng.integers(0, 30, (2, 200))
    found = plda_scores(model, vectors, vectors, enrol_index, test_index)
    between = model.F @ model.F.T
    total = between + model.Sigma
    both = np.block([[total, between], [between, total]])
    same = multivariate_normal(np.tile(model.mean, 2), both)
    alone = multivariate_normal(model.mean, total)
    a, b = vectors[enrol_index], vectors[test_index]
    wanted = same.logpdf(np.hstack([a, b])) - alone.logpdf(a) - alone.logpdf(b)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_blocks_and_sides_do_not_matter(model, monkeypatch):
    vectors, _ = voices(20, 5, seed=4)
    before = vectors.copy()
    rng = np.random.default_rng(5)
    index = rng.integers(0, 100, (2, 500))
    whole = plda_scores(model, vectors, vectors, *index)
    monkeypatch.setattr("speechbrain_scl.evaluation.plda._BLOCK", 7)
    np.testing.assert_allclose(
        plda_scores(model, vectors, vectors, *index), whole, atol=1e-9
    )
    swapped = plda_scores(model, vectors, vectors, *index[::-1])
    np.testing.assert_allclose(swapped, whole, atol=1e-9)
    assert np.array_equal(vectors, before)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda x: x[::8].repeat(8, 0), "differ in 0"),
        (lambda x: np.where(np.arange(DIM) == 2, 0.5, x), "differ in 5"),
        (lambda x: np.where(np.arange(DIM) == 2, x[:, :1], x), "differ in 5"),
        (lambda x: np.where(np.arange(DIM) == 2, np.nan, x), "not finite"),
    ],
)
def test_a_cohort_without_full_rank_is_told(spoil, message):
    vectors, speakers = voices(30, 8, seed=0)
    with pytest.raises(UserError, match=message):
        fit_plda(spoil(vectors), speakers, rank=3)
    with pytest.raises(UserError, match="240 speakers .* differ in 0"):
        fit_plda(vectors, [str(i) for i in range(len(vectors))], rank=3)
    with pytest.raises(UserError, match="plda_rank=9: with 30 speakers"):
        fit_plda(vectors, speakers, rank=9)
