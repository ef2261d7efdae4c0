"""Scores as the options of a verification ask for them; PLDA's against the two
Gaussians that they compare."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import backends
from speechbrain_scl.evaluation.backends import (
    fit_plda,
    list_scorer,
    plda_scores,
)

DIM = 6


@pytest.mark.parametrize("norm", ["none", "z-norm"])
@pytest.mark.parametrize("backend", ["cosine", "centred"])
@pytest.mark.parametrize("of", ["speakers", "utterances"])
def test_each_score_by_hand(tmp_path, norm, backend, of):
    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    vectors = unit(np.random.default_rng(0).normal(size=(9, 4)) + 0.5)
    path = str(tmp_path / "cohort.csv")
    write_manifest(
        path,
        [Utterance(str(i), 1.0, "a.wav", 0, 1, str(i % 3)) for i in range(6)],
    )
    options = {"backend": backend, "score_norm": norm, "cohort": path}
    options |= {"cohort_of": of, "crops": None, "top_n": 2}
    score = list_scorer(
        options, lambda paths: {name: vectors[int(name)] for name in paths}
    )
    found = score(vectors[6:8], vectors[8:], np.array([0, 1]), np.array([0, 0]))

    cohort = vectors[:6]
    if of == "speakers":
        cohort = unit(np.stack([cohort[i::3].mean(0) for i in range(3)]))
    mean = cohort.mean(0) if backend == "centred" else 0.0
    enrol, test, cohort = (
        unit(x - mean) for x in (vectors[6:8], vectors[8], cohort)
    )
    wanted = enrol @ test
    if norm == "z-norm":
        impostors = enrol @ cohort.T
        wanted = (wanted - impostors.mean(1)) / impostors.std(1, ddof=1)
    np.testing.assert_allclose(found, wanted)


def voices(n_speakers, n_utterances, seed):
    """Speakers vary in two dimensions, sessions strongly in two others."""
    rng = np.random.default_rng(seed)
    between = np.diag([1.0, 0.8, 0.1, 0.1, 0.1, 0.1])
    within = np.diag([0.3, 0.3, 2.0, 1.5, 0.2, 0.2])
    means = rng.normal(size=(n_speakers, DIM)) @ between + 0.5
    noise = rng.normal(size=(n_speakers * n_utterances, DIM)) @ within
    speakers = np.arange(n_speakers).repeat(n_utterances)
    return means[speakers] + noise, speakers.astype(str).tolist()


@pytest.mark.parametrize("block", [7, 256])
def test_plda_scores_are_log_likelihood_ratios(block, monkeypatch):
    monkeypatch.setattr(backends, "_BLOCK", block)
    model = fit_plda(*voices(100, 8, seed=0), rank=3)
    vectors, _ = voices(10, 3, seed=1)
    before = vectors.copy()
    index = np.random.default_rng(2).integers(0, 30, (2, 200))
    found = plda_scores(model, vectors, vectors, *index)
    swapped = plda_scores(model, vectors, vectors, *index[::-1])
    assert np.array_equal(vectors, before)
    between = model.F @ model.F.T
    total = between + model.Sigma
    both = np.block([[total, between], [between, total]])
    same = multivariate_normal(np.tile(model.mean, 2), both)
    alone = multivariate_normal(model.mean, total)
    a, b = vectors[index]
    wanted = same.logpdf(np.hstack([a, b])) - alone.logpdf(a) - alone.logpdf(b)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(swapped, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda x: x[::8].repeat(8, 0), "differ in 0"),
        (lambda x: np.where(np.arange(DIM) == 2, 0.5, x), "differ in 5"),
        (lambda x: np.where(np.arange(DIM) == 2, x[:, :1], x), "differ in 5"),
        (lambda x: np.where(np.arange(DIM) == 2, np.nan, x), "not finite"),
        (lambda x: x, "plda_rank=9: with 30 speakers"),
    ],
)
def test_a_cohort_without_full_rank_is_told(spoil, message):
    vectors, speakers = voices(30, 8, seed=0)
    with pytest.raises(UserError, match=message):
        fit_plda(spoil(vectors), speakers, rank=9)
    with pytest.raises(UserError, match="240 speakers .* differ in 0"):
        fit_plda(vectors, [str(i) for i in range(len(vectors))], rank=3)
