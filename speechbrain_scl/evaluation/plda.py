"""PLDA scores, by SpeechBrain's own PLDA."""

import numpy as np

from speechbrain.processing.PLDA_LDA import (
    PLDA,
    Ndx,
    StatObject_SB,
    fast_PLDA_scoring,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.scoring import trials_by_enrolment

_BLOCK = 256  # enrolments whose scores are held at a time


def fit_plda(vectors, speakers, rank=100, n_iterations=10):
    """Fits a probabilistic linear discriminant analysis.

        x = mean + F y + e,   y ~ N(0, I) per speaker,   e ~ N(0, Sigma)

    (Prince and Elder 2007, the simplified form; by expectation maximisation.)
    Of vectors [N, D] and their speakers [N]; F has ``rank`` columns.
    """
    vectors = np.array(vectors, dtype=np.float64)
    if not np.isfinite(vectors).all():
        raise UserError("PLDA: embeddings that are not finite")
    _, speaker, counts = np.unique(
        speakers, return_inverse=True, return_counts=True
    )
    n_speakers = len(counts)
    means = np.zeros((n_speakers, vectors.shape[1]))
    np.add.at(means, speaker, vectors)
    within = vectors - (means / counts[:, None])[speaker]
    variances = np.linalg.eigvalsh(within.T @ within)
    # In so many dimensions the utterances of a speaker differ.
    varied = int((variances > 1e-12 * (vectors**2).sum()).sum())
    if varied < vectors.shape[1]:
        raise UserError(
            f"PLDA: {len(vectors)} utterances of {n_speakers} speakers cannot "
            f"give a covariance of {vectors.shape[1]} dimensions: a speaker's "
            f"differ in {varied}; use more of each speaker, or the cosine"
        )
    if not 1 <= rank < min(n_speakers, vectors.shape[1]):
        raise UserError(
            f"plda_rank={rank}: with {n_speakers} speakers and "
            f"{vectors.shape[1]} dimensions it must be 1 to "
            f"{min(n_speakers, vectors.shape[1]) - 1}"
        )
    model = PLDA(rank_f=rank, nb_iter=n_iterations)
    model.plda(_statistics(vectors, np.array(speakers, dtype="|O")))
    return model


def plda_scores(model, enrol, test, enrol_index, test_index):
    """Log-likelihood ratio [N] of each trial under the model, with arguments as
    of ``scoring.inner_products``."""
    enrol_index, test_index = np.asarray(enrol_index), np.asarray(test_index)
    scores = np.empty(len(enrol_index))
    for _, trials in trials_by_enrolment(enrol_index, len(enrol), _BLOCK):
        rows, row = np.unique(enrol_index[trials], return_inverse=True)
        columns, column = np.unique(test_index[trials], return_inverse=True)
        sides = [_statistics(x) for x in (enrol[rows], test[columns])]
        found = fast_PLDA_scoring(
            *sides,
            Ndx(models=sides[0].modelset, testsegs=sides[1].segset),
            *(model.mean, model.F, model.Sigma),
            check_missing=False,
        )
        scores[trials] = found.scoremat[row, column]
    return scores


def _statistics(vectors, models=None):
    """One session per vector, in SpeechBrain's container."""
    n = len(vectors)
    names = np.array([str(i) for i in range(n)], dtype="|O")
    return StatObject_SB(
        modelset=names if models is None else models,
        segset=names,
        start=np.array([None] * n),
        stop=np.array([None] * n),
        stat0=np.ones((n, 1)),
        stat1=np.array(vectors, dtype=np.float64),
    )
