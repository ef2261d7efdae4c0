#!/usr/bin/python3
"""Recipe for speaker verification on CN-Celeb.E: the cosine of speaker
embeddings, with enrolment models of several utterances.

To run this recipe, use the following command:
> python speaker_verification_cosine.py hparams/verification_ecapa_scl.yaml

The convention of enrolment changes the figures: with eval/lists/enroll.map a
model is the mean of its utterances' embeddings (Avg), with
eval/lists/enroll.lst it is the corpus's one joined recording (Concat).
"""

import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml
from tqdm import tqdm

import speechbrain as sb
from speechbrain.dataio.dataio import read_audio
from speechbrain.utils.distributed import run_on_main
from speechbrain_scl.evaluation.enrolment import read_enrolment_map
from speechbrain_scl.evaluation.metrics import eer, min_dcf
from speechbrain_scl.evaluation.trials import read_trials


def locate(name, data_folder):
    """The file of a name of the lists, which say .wav where .flac is meant."""
    stem, _ = os.path.splitext(name)
    for folder in ("eval", "eval/enroll", "data", ""):
        for path in (name, stem + ".flac", stem + ".wav"):
            path = os.path.join(data_folder, folder, path)
            if os.path.isfile(path):
                return path
    raise ValueError(f"{data_folder}: no {name}, neither .wav nor .flac")


def embed(params, device, path):
    """The embedding of a whole recording, of unit length [dim]."""
    wavs = read_audio(path).to(device)[None]
    lens = torch.ones(1, device=device)
    with torch.no_grad():
        feats = params["compute_features"](wavs)
        feats = params["mean_var_norm"](feats, lens)
        embedding = params["embedding_model"](feats, lens)
    return F.normalize(embedding.flatten(), dim=0).cpu().numpy()


if __name__ == "__main__":
    # Load hyperparameters file with command-line overrides
    params_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(params_file, encoding="utf-8") as fin:
        params = load_hyperpyyaml(fin, overrides)
    sb.core.create_experiment_directory(
        experiment_directory=params["output_folder"],
        hyperparams_to_save=params_file,
        overrides=overrides,
    )

    # Lists first: hours of embedding shall not end at a wrong line.
    trials = read_trials(params["verification_file"])
    models = read_enrolment_map(params["enrolment_map"])
    for model in trials.enrol_ids:
        if model not in models:
            raise ValueError(f"{params['enrolment_map']}: no model {model}")
    names = {u for model in trials.enrol_ids for u in models[model]}
    paths = {
        name: locate(name, params["data_folder"])
        for name in sorted(names | set(trials.test_ids))
    }

    run_on_main(params["pretrainer"].collect_files)
    params["pretrainer"].load_collected()
    device = run_opts["device"] or "cpu"
    for key in ("compute_features", "embedding_model"):
        params[key].eval().to(device)
    embeddings = {
        name: embed(params, device, path)
        for name, path in tqdm(paths.items(), dynamic_ncols=True)
    }

    enrol = np.stack(
        [
            np.mean([embeddings[u] for u in models[model]], axis=0)
            for model in trials.enrol_ids
        ]
    )
    enrol /= np.linalg.norm(enrol, axis=1, keepdims=True)
    test = np.stack([embeddings[name] for name in trials.test_ids])
    scores = (enrol @ test.T)[trials.enrol_index, trials.test_index]
    with open(
        os.path.join(params["output_folder"], "scores.txt"),
        "w",
        encoding="utf-8",
    ) as file:
        for first, second, label, score in zip(
            trials.enrol_index, trials.test_index, trials.labels, scores
        ):
            file.write(
                f"{trials.enrol_ids[first]} {trials.test_ids[second]} "
                f"{int(label)} {score:.6f}\n"
            )
    rate, _ = eer(scores, trials.labels)
    cost, _ = min_dcf(scores, trials.labels, p_target=params["p_target"])
    print(f"EER {100 * rate:.2f} %, minDCF {cost:.4f} (p {params['p_target']})")
