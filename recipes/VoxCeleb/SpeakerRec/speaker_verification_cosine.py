#!/usr/bin/env python3
"""Speaker verification by the cosine of two embeddings.

To run this recipe, use the following command:
> python speaker_verification_cosine.py --data_folder=/path/to/VoxCeleb1

Without a yaml file it uses hparams/verification_ecapa_scl.yaml, which scores
the encoder that train_speaker_embeddings.py hparams/ecapa_scl.yaml left.
"""

import os
import sys

import numpy as np

import speechbrain as sb
from speechbrain.inference import EncoderClassifier
from speechbrain_scl.corpora.download import fetch_file
from speechbrain_scl.corpora.manifest import read_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import report, scoring
from speechbrain_scl.evaluation.embeddings import (
    extract_embeddings,
    file_digest,
    folder_digest,
    locate,
)
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.experiment import read_experiment, user_errors_in_one_line
from speechbrain_scl.files import write_json


def speaker_of(name):
    """The speaker of <speaker>/<session>/<utterance>."""
    return name.split("/")[0]


def as_list(value):
    """One path, several separated by commas, or a list."""
    value = value.split(",") if isinstance(value, str) else value
    return [str(item).strip() for item in value]


def load_encoder(params, run_opts):
    """The encoder of an inference folder or a hub repository, and its key."""
    source = params["pretrain_path"]
    if not os.path.isdir(source) and (
        source.startswith((".", "/", "results")) or source.count("/") != 1
    ):
        raise UserError(
            f"pretrain_path={source}: there is no such folder; it is the "
            "`inference` folder of a training's output, or a hub repository"
        )
    is_folder = os.path.isdir(source)
    # What is fetched stays there for good, so each model has its own place.
    name = folder_digest(source) if is_folder else source.replace("/", "--")
    savedir = os.path.join(params["output_folder"], "models", name)
    encoder = EncoderClassifier.from_hparams(
        source=source,
        savedir=savedir,
        run_opts={"device": run_opts.device or "cpu"},
    )
    folder = source if is_folder else savedir
    model_file = os.path.join(folder, "embedding_model.ckpt")
    return encoder, folder_digest(folder), model_file


def cohort_statistics(params, embed, embeddings):
    """Each embedding's statistics over means of the cohort's speakers."""
    manifest = read_manifest(params["cohort"])
    vectors = embed({u.ID: u.wav for u in manifest})
    by_speaker = {}
    for utterance in manifest:
        by_speaker.setdefault(utterance.spk_id, []).append(
            vectors[utterance.ID]
        )
    cohort = np.stack([np.mean(v, axis=0) for v in by_speaker.values()])
    top_n = params["top_n"] if params["score_norm"] == "as-norm" else None
    names = list(embeddings)
    mean, std = scoring.cohort_statistics(
        np.stack([embeddings[name] for name in names]), cohort, top_n
    )
    return dict(zip(names, zip(mean, std)))


def score(trials, embeddings, statistics, method):
    """The (normalised) scores of a trial list."""
    enrol = np.stack([embeddings[name] for name in trials.enrol_ids])
    test = np.stack([embeddings[name] for name in trials.test_ids])
    scores = scoring.cosine_scores(
        enrol, test, trials.enrol_index, trials.test_index
    )
    if method == "none":
        return scores
    sides = []
    for names, index in (
        (trials.enrol_ids, trials.enrol_index),
        (trials.test_ids, trials.test_index),
    ):
        of_side = np.array([statistics[name] for name in names])
        sides.append((of_side[index, 0], of_side[index, 1]))
    return scoring.normalize_scores(scores, *sides, method)


def main(arguments):
    """Embeds, scores, measures and reports."""
    params, run_opts, params_file, overrides = read_experiment(
        arguments, "hparams/verification_ecapa_scl.yaml"
    )
    scoring.check_method(params["score_norm"])
    output = params["output_folder"]
    roots = as_list(params["data_folder"])
    for root in roots:
        if not os.path.isdir(root):
            raise UserError(
                f"data_folder={root}: there is no such folder; name yours "
                "with --data_folder=/path/to/corpus"
            )
    lists = [
        read_trials(fetch_file(source, output))
        for source in as_list(params["verification_file"])
    ]
    paths = {}
    for trials in lists:
        names = {**dict.fromkeys(trials.enrol_ids)}
        names.update(dict.fromkeys(trials.test_ids))
        paths.update(locate(names, roots, trials.path))

    sb.core.create_experiment_directory(
        experiment_directory=output,
        hyperparams_to_save=params_file,
        overrides=overrides,
    )
    encoder, model_key, model_file = load_encoder(params, run_opts)

    def embed(files):
        return extract_embeddings(
            lambda wavs: encoder.encode_batch(wavs).squeeze(1),
            files,
            model_key,
            cache=os.path.join(output, "embeddings.npz"),
            batch_size=params["batch_size"],
            sample_rate=params["sample_rate"],
        )

    embeddings = embed(paths)
    statistics = None
    if params["score_norm"] != "none":
        statistics = cohort_statistics(params, embed, embeddings)

    metrics, scored = {}, {}
    for trials in lists:
        scores = score(trials, embeddings, statistics, params["score_norm"])
        metrics[trials.name] = report.measure(
            trials,
            scores,
            speaker_of,
            params["p_target"],
            params["bootstrap"],
        )
        scored[trials.name] = (scores, trials.labels)
        suffix = f"-{trials.name}" if len(lists) > 1 else ""
        report.write_scores(
            os.path.join(output, f"scores{suffix}.txt"), trials, scores
        )
    report.plot_det(os.path.join(output, "det.png"), scored, params["p_target"])
    write_json(
        os.path.join(output, "metrics.json"),
        {
            "trials": metrics,
            "score_norm": params["score_norm"],
            "model": os.path.abspath(model_file),
            "model_sha256": file_digest(model_file),
        },
    )
    print(f"\n{report.table(metrics)}\n\nScores, figures and plot: {output}")


if __name__ == "__main__":
    with user_errors_in_one_line():
        main(sys.argv[1:])
