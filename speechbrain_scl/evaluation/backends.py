"""Embeddings to scores, as a verification's options ask for."""

import functools
import os

import numpy as np

from speechbrain.processing.PLDA_LDA import (
    PLDA,
    Ndx,
    StatObject_SB,
    fast_PLDA_scoring,
)
from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.distributed import rank
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.calibration import (
    calibration_trials,
    fit_calibration,
)

logger = get_logger(__name__)

HELD_OUT = "held_out"  # of the model's own training run
_PER_SPEAKER = 10  # utterances whose pairs calibrate
_BLOCK = 256  # enrolments whose PLDA scores are held at a time


def list_scorer(params, embed):
    """The way to score a list, called as ``scoring.inner_products``; ``embed``
    takes name -> file, of the cohort."""
    backend, norm = params["backend"], params["score_norm"]
    score = scoring.inner_products
    if backend == "cosine" and norm == "none":
        return score
    cohort, speakers = _embedded(read_manifest(params["cohort"]), embed)
    if backend == "plda":
        model = fit_plda(cohort, speakers, params["plda_rank"])
        return functools.partial(plda_scores, model)
    if params["cohort_of"] == "speakers":
        of_each = [cohort[speakers == x] for x in dict.fromkeys(speakers)]
        cohort = np.stack(
            [scoring.mean_embedding(x, params["crops"]) for x in of_each]
        )
    mean = cohort.mean(0)
    if backend == "centred":
        cohort = scoring.unit(cohort - mean)
    if norm != "none":
        how = cohort, norm, _top_n(params)
        score = functools.partial(scoring.normalized_scores, *how)
    if backend != "centred":
        return score
    return lambda enrol, test, *index: score(
        scoring.unit(enrol - mean), scoring.unit(test - mean), *index
    )


def check_cohort(params, cohort):
    """Refuses, before anything is embedded, utterances of too few members."""
    if params["score_norm"] != "none":
        key = "spk_id" if params["cohort_of"] == "speakers" else "ID"
        n_members = len({getattr(u, key) for u in cohort})
        scoring.check_cohort(n_members, _top_n(params))


def _top_n(params):
    return params["top_n"] if params["score_norm"] == "as-norm" else None


def score_calibration(params, embed, scorer, model_key):
    """A calibration of pairs of held-out speakers, saved as calibration.json;
    returned where a manifest names them, for the scores. ``held_out`` takes
    those that the model's training run kept out, where they are at hand, and
    leaves the scores as they are."""
    asked, norm = params["calibration"], params["score_norm"]
    if asked == HELD_OUT:
        manifest = _held_out(params["pretrain_path"])
    else:
        manifest = read_manifest(asked) if asked else []
    if not manifest:
        return None
    vectors, speakers = _embedded(manifest, embed)
    seconds = np.array([u.duration for u in manifest])
    first, second, labels = calibration_trials(speakers)
    kind = params["backend"] if norm == "none" else norm
    kind += " with crops" * bool(params["crops"])
    try:
        calibration = fit_calibration(
            scorer(vectors, vectors, first, second),
            labels,
            params["p_target"],
            model_key,
            kind,
            np.minimum(seconds[first], seconds[second])
            if params["calibrate_duration"]
            else None,
        )
    except UserError as error:
        if asked != HELD_OUT:
            raise
        logger.warning(f"no calibration.json: {error}")
        return None
    if rank() == 0:
        path = os.path.join(params["output_folder"], "calibration.json")
        calibration.save(path)
    return calibration if asked != HELD_OUT else None


def _embedded(manifest, embed):
    """Embeddings [N, D] and speakers [N] of a manifest's utterances."""
    found = embed({u.ID: u.wav for u in manifest})
    vectors = np.stack([found[u.ID] for u in manifest])
    return vectors, np.array([u.spk_id for u in manifest])


def _held_out(model):
    """A few utterances of each speaker that a training run kept out."""
    path = os.path.join(
        os.path.dirname(os.path.abspath(model)), "save", "valid.csv"
    )
    if not (os.path.isdir(model) and os.path.isfile(path)):
        return []
    of_speaker = {}
    for utterance in read_manifest(path):
        of_speaker.setdefault(utterance.spk_id, []).append(utterance)
    chosen = [u for some in of_speaker.values() for u in some[:_PER_SPEAKER]]
    gone = [u.wav for u in chosen if not os.path.isfile(u.wav)]
    if gone:
        logger.warning(f"no calibration.json: {path} names {gone[0]}, gone")
    return [] if gone else chosen


def fit_plda(vectors, speakers, rank=100, n_iterations=10):
    """SpeechBrain's probabilistic linear discriminant analysis of vectors [N, D]
    and their speakers [N] (Prince and Elder 2007, the simplified form):

        x = mean + F y + e,   y ~ N(0, I) per speaker,   e ~ N(0, Sigma)
    """
    vectors = np.array(vectors, dtype=np.float64)
    if not np.isfinite(vectors).all():
        raise UserError("PLDA: embeddings that are not finite")
    _, speaker, counts = np.unique(
        speakers, return_inverse=True, return_counts=True
    )
    n_speakers, dim = len(counts), vectors.shape[1]
    means = np.zeros((n_speakers, dim))
    np.add.at(means, speaker, vectors)
    within = vectors - (means / counts[:, None])[speaker]
    variances = np.linalg.eigvalsh(within.T @ within)
    # In so many dimensions the utterances of a speaker differ.
    varied = int((variances > 1e-12 * (vectors**2).sum()).sum())
    if varied < dim:
        raise UserError(
            f"PLDA: {len(vectors)} utterances of {n_speakers} speakers cannot "
            f"give a covariance of {dim} dimensions: a speaker's differ in "
            f"{varied}; use more of each speaker, or the cosine"
        )
    most = min(n_speakers, dim) - 1
    if not 1 <= rank <= most:
        raise UserError(
            f"plda_rank={rank}: with {n_speakers} speakers and {dim} "
            f"dimensions it must be 1 to {most}"
        )
    model = PLDA(rank_f=rank, nb_iter=n_iterations)
    model.plda(_statistics(vectors, np.array(speakers, dtype="|O")))
    return model


def plda_scores(model, enrol, test, enrol_index, test_index):
    """Log-likelihood ratio [N] of each trial under the model, with arguments as
    of ``scoring.inner_products``."""
    enrol_index, test_index = np.asarray(enrol_index), np.asarray(test_index)
    scores = np.empty(len(enrol_index))
    for _, trials in scoring.trials_by_enrolment(
        enrol_index, len(enrol), _BLOCK
    ):
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
