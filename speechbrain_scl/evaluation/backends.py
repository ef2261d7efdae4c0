"""Embeddings to scores, as a verification's options ask for."""

import functools
import os

import numpy as np

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.distributed import rank
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.calibration import (
    calibration_trials,
    fit_calibration,
)
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.evaluation.plda import fit_plda, plda_scores

logger = get_logger(__name__)

HELD_OUT = "held_out"  # of the model's own training run
_PER_SPEAKER = 10  # utterances whose pairs calibrate


def list_scorer(params, embed):
    """The way to score a list that the options ask for, which is called as
    ``scoring.inner_products``; ``embed`` takes name -> file, of the cohort."""
    if params["backend"] == "cosine" and params["score_norm"] == "none":
        return scoring.inner_products
    manifest = read_manifest(params["cohort"])
    found = embed({u.ID: u.wav for u in manifest})
    speakers = [u.spk_id for u in manifest]
    cohort = np.stack([found[u.ID] for u in manifest])
    if params["backend"] == "plda":
        model = fit_plda(cohort, speakers, params["plda_rank"])
        return functools.partial(plda_scores, model)
    score = scoring.inner_products
    if params["cohort_of"] == "speakers":
        of_speaker = {}
        for speaker, vector in zip(speakers, cohort):
            of_speaker.setdefault(speaker, []).append(vector)
        cohort = np.stack(
            [mean_embedding(v, params["crops"]) for v in of_speaker.values()]
        )
    centred, mean = params["backend"] == "centred", cohort.mean(0)
    if centred:
        cohort = scoring.unit(cohort - mean)
    if params["score_norm"] != "none":
        score = functools.partial(
            scoring.normalized_scores,
            cohort,
            params["score_norm"],
            params["top_n"] if params["score_norm"] == "as-norm" else None,
        )
    if not centred:
        return score
    return lambda enrol, test, *index: score(
        scoring.unit(enrol - mean), scoring.unit(test - mean), *index
    )


def score_calibration(params, embed, scorer, model_key):
    """A calibration of pairs of held-out speakers, saved as calibration.json;
    returned where a manifest names them, for the scores. ``held_out`` takes
    those that the model's training run kept out, where they are at hand, and
    leaves the scores as they are."""
    asked = params["calibration"]
    if asked == HELD_OUT:
        manifest = _held_out(params["pretrain_path"])
    else:
        manifest = read_manifest(asked) if asked else []
    if not manifest:
        return None
    found = embed({u.ID: u.wav for u in manifest})
    vectors = np.stack([found[u.ID] for u in manifest])
    first, second, labels = calibration_trials([u.spk_id for u in manifest])
    norm = params["score_norm"]
    kind = params["backend"] if norm == "none" else norm
    kind += " with crops" * bool(params["crops"])
    try:
        calibration = fit_calibration(
            scorer(vectors, vectors, first, second),
            labels,
            params["p_target"],
            model_key,
            kind,
        )
    except UserError as error:
        if asked != HELD_OUT:
            raise
        logger.warning(f"no calibration.json: {error}")
        return None
    if rank() == 0:
        calibration.save(
            os.path.join(params["output_folder"], "calibration.json")
        )
    return calibration if asked != HELD_OUT else None


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
