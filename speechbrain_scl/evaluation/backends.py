"""Embeddings to scores, as a verification's options ask for."""

import functools
import os

import numpy as np

from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.distributed import rank
from speechbrain_scl.evaluation import scoring
from speechbrain_scl.evaluation.calibration_fit import (
    calibration_trials,
    fit_calibration,
)
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.evaluation.plda import fit_plda, plda_scores


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
    centred = params["backend"] == "centred"
    mean = cohort.mean(0)
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
    """A calibration that is fitted on pairs of held-out speakers and saved, or
    None where none is asked for."""
    if not params["calibration"]:
        return None
    manifest = read_manifest(params["calibration"])
    found = embed({u.ID: u.wav for u in manifest})
    vectors = np.stack([found[u.ID] for u in manifest])
    first, second, labels = calibration_trials([u.spk_id for u in manifest])
    kind = params["backend"]
    if params["score_norm"] != "none":
        kind = params["score_norm"]
    calibration = fit_calibration(
        scorer(vectors, vectors, first, second),
        labels,
        params["p_target"],
        model_key,
        kind,
    )
    if rank() == 0:
        calibration.save(
            os.path.join(params["output_folder"], "calibration.json")
        )
    return calibration
