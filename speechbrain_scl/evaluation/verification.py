"""A verification run: an encoder and trial lists to scores and a report."""

import contextlib
import functools
import itertools
import os
import re

import numpy as np
import soundfile

from speechbrain.utils.distributed import infer_device
from speechbrain_scl.data.download import fetch_file
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.names import below, locate
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.distributed import rank
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import backends, report
from speechbrain_scl.evaluation.conditions import conditions, read_metadata
from speechbrain_scl.evaluation.embeddings import extract_embeddings, main_first
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.results import measure
from speechbrain_scl.evaluation.scoring import mean_embedding
from speechbrain_scl.evaluation.store import file_digest, save_embeddings
from speechbrain_scl.evaluation.trials import (
    read_enrolment_map,
    read_trials,
    write_scores,
)
from speechbrain_scl.files import only_run_in


def verify(params, run_opts):
    """Embeds, scores, measures and reports.

    Leaves in ``output_folder``: the scores (scores.txt, or one file per list),
    metrics.json, det.png, report.html, calibration.json, the embeddings by name,
    and a cache of them. Under torchrun the processes share the embedding; the
    main one alone scores and writes.

    Of the experiment ``params``, as ``hparams/verification_ecapa_scl.yaml`` of a
    recipe spells it. Returns list name -> its figures, as in metrics.json; in
    all processes but the main one nothing.
    """
    roots = as_list(params["data_folder"], "data_folder")
    for root in roots:
        if not os.path.isdir(root):
            raise UserError(
                f"data_folder={root}: there is no such folder; name yours "
                "with --data_folder=/path/to/corpus"
            )
    params = {**params, "data_folder": roots}
    only = only_run_in if rank() == 0 else contextlib.nullcontext
    with only(params["output_folder"]):
        return _verify(params, run_opts)


def _verify(params, run_opts):
    output = params["output_folder"]
    # What can be told before anything is computed
    if params["backend"] == "plda" and params["score_norm"] != "none":
        raise UserError(
            "backend=plda gives log-likelihood ratios: use score_norm=none"
        )
    if params["crops"] and params["backend"] == "centred":
        raise UserError("backend=centred takes whole utterances: crops=null")
    speaker_of = speaker_function(params)
    sources = as_list(params["verification_file"], "verification_file")
    lists = _read_lists(sources, params)
    _check_manifests(params, lists, speaker_of)
    splits = [[]] * len(lists)
    if params["metadata"]:
        columns = as_list(params["conditions"], "conditions")
        known = read_metadata(params["metadata"], columns)
        splits = [conditions(x, known, columns, speaker_of) for x in lists]
    audio, enrolled = _audio_of(lists, params)

    with main_first():
        encoder = load_encoder(
            params["pretrain_path"],
            os.path.join(output, "models"),
            run_opts.device or infer_device(),
            params.get("trust_model", False),
        )
    embed = functools.partial(
        extract_embeddings,
        encoder.embed,
        model_key=encoder.key,
        cache=os.path.join(output, "embedding_cache"),
        pack_seconds=params["pack_seconds"],
        sample_rate=params["sample_rate"],
        crops=params["crops"],
    )
    vectors = embed(audio)
    scorer = backends.list_scorer(params, embed)
    calibration = backends.score_calibration(params, embed, scorer, encoder.key)
    if rank() > 0:
        return {}

    save_embeddings(params["embeddings_file"], vectors, encoder.key)
    models = {
        model: mean_embedding([vectors[x] for x in names], params["crops"])
        for model, names in enrolled.items()
    }
    measured, score_files = {}, {}
    for trials, parts in zip(lists, splits):
        name = trials.name
        scores = scorer(
            np.stack([models[x] for x in trials.enrol_ids]),
            np.stack([vectors[x] for x in trials.test_ids]),
            trials.enrol_index,
            trials.test_index,
        )
        if calibration:
            seconds = np.nan
            if calibration.duration:
                seconds = _shorter_side(trials, audio, enrolled)
            scores = calibration(scores, seconds)
        trials = trials.with_scores(scores)
        of_list = f"-{name}" if len(lists) > 1 else ""
        score_files[name] = f"scores{of_list}.txt"
        write_scores(os.path.join(output, score_files[name]), trials)
        measured[name] = found, _ = measure(
            trials,
            speaker_of,
            params["p_target"],
            params["bootstrap"],
            bool(calibration),
            parts,
        )
        if n_same := _compared_with_itself(trials, audio, enrolled):
            found["remarks"].append(
                f"{n_same} of {trials.labels.sum()} target trials compare a "
                "file with itself"
            )
    report.write_report(
        output,
        measured,
        {
            "run": {
                **report.describe_call(),
                "model": params["pretrain_path"],
                "data": params["data_folder"],
                "lists": sources,
                "training": encoder.training,
            },
            **{x: params[x] for x in ("backend", "score_norm", "crops")},
            "enrolment": params["enrolment_map"] and params["enrolment"],
            "calibrated": bool(calibration),
            "model": os.path.abspath(encoder.model_file),
            "model_sha256": file_digest(encoder.model_file),
        },
        score_files,
        report.find_training_log(params["pretrain_path"]),
    )
    if params.get("tensorboard"):
        tested = {x: vectors[x] for t in lists for x in t.test_ids}
        report.write_tensorboard(
            params["tensorboard"], measured, tested, speaker_of
        )
    return {name: found for name, (found, _) in measured.items()}


def _read_lists(sources, params):
    """The trial lists, fetched where they are URLs."""
    with main_first():
        files = [fetch_file(x, params["output_folder"]) for x in sources]
    lists = [read_trials(file, params["trial_layout"]) for file in files]
    names = [trials.name for trials in lists]
    if len(set(names)) < len(names):
        raise UserError(
            f"verification_file: the lists {', '.join(names)} need different "
            "file names, as their results bear them"
        )
    return lists


def _audio_of(lists, params):
    """What is embedded, name -> files whose audio is joined; and for each model
    or utterance to enrol, the names whose mean it is."""
    joins, path = params["enrolment"] == "concatenate", params["enrolment_map"]
    models = read_enrolment_map(path) if path else {}
    files, audio, enrolled = {}, {}, {}
    for trials in lists:
        parts = {name: models.get(name, [name]) for name in trials.enrol_ids}
        names = dict.fromkeys(itertools.chain(trials.test_ids, *parts.values()))
        files.update(
            locate(names, params["data_folder"], trials.path, trials.line_of)
        )
        alone = trials.test_ids if joins else names
        audio.update((name, (files[name],)) for name in alone)
        enrolled.update(parts)
    for model, parts in enrolled.items() if joins else ():
        joined = tuple(files[name] for name in parts)
        # An utterance may bear the model's name.
        alone = audio.get(model, joined) == joined
        name = model if alone else f"{model}-enrolment"
        audio[name] = joined
        enrolled[model] = [name]
    return audio, enrolled


def _shorter_side(trials, audio, enrolled):
    """Seconds [T] of the shorter side of each trial; a model's are those of all
    that it was enrolled with."""
    of_file = functools.cache(lambda path: soundfile.info(path).duration)
    seconds = {name: sum(map(of_file, x)) for name, x in audio.items()}
    enrol = [sum(seconds[n] for n in enrolled[x]) for x in trials.enrol_ids]
    test = [seconds[x] for x in trials.test_ids]
    return np.minimum(
        np.array(enrol)[trials.enrol_index], np.array(test)[trials.test_index]
    )


def _compared_with_itself(trials, audio, enrolled):
    """How many target trials have their test file in the enrolment."""
    heard = [
        {file for name in enrolled[model] for file in audio[name]}
        for model in trials.enrol_ids
    ]
    targets = np.flatnonzero(trials.labels)
    pairs = zip(trials.enrol_index[targets], trials.test_index[targets])
    tested = [audio[name][0] for name in trials.test_ids]
    return sum(tested[test] in heard[model] for model, test in pairs)


def speaker_function(params):
    """An utterance's or model's name to its speaker's: what the first group of
    ``speaker_pattern`` matches."""
    try:
        pattern = re.compile(params["speaker_pattern"])
    except (TypeError, re.error) as error:
        # HyperPyYAML reads what is in brackets from end to end as a tuple.
        raise UserError(
            f"speaker_pattern={params['speaker_pattern']!r}: it must be a "
            f"regular expression that does not end in a bracket ({error})"
        ) from error
    if pattern.groups != 1:
        raise UserError(
            f"speaker_pattern={pattern.pattern!r}: one group is the speaker"
        )

    def speaker_of(name):
        found = pattern.match(below(name, params["data_folder"]) or name)
        if not found:
            raise UserError(
                f"speaker_pattern={pattern.pattern!r} does not match {name}"
            )
        return found[1]

    return speaker_of


def _check_manifests(params, lists, speaker_of):
    """A cohort or calibration of the tested speakers flatters the result; a
    cohort may be too small for any."""
    names = [n for t in lists for n in (*t.enrol_ids, *t.test_ids)]
    tested = set(map(speaker_of, names))
    has_cohort = params["backend"] != "cosine" or params["score_norm"] != "none"
    for key in ["cohort"] * has_cohort + ["calibration"]:
        if params[key] in (None, "", backends.HELD_OUT):
            continue
        utterances = read_manifest(params[key])
        common = [
            u
            for u in utterances
            if u.spk_id in tested
            and below(os.path.abspath(u.wav), params["data_folder"])
        ]
        if common:
            raise UserError(
                f"{key}={params[key]}: {len(common)} of its utterances are of "
                f"speakers that are tested, the first is {common[0].ID}: the "
                "result would flatter; name a manifest of other speakers"
            )
        if key == "cohort":
            backends.check_cohort(params, utterances)
