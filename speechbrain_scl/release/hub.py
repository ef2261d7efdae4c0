"""A trained encoder on a model hub: its card, and its upload."""

import json
import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.evaluation.provenance import read_description
from speechbrain_scl.evaluation.results import table
from speechbrain_scl.evaluation.store import file_digest
from speechbrain_scl.files import atomic_write

# What an inference folder may hold; nothing else leaves the machine.
PUBLIC = (
    "README.md hyperparams.yaml embedding_model.ckpt classifier.ckpt "
    "label_encoder.ckpt training.json calibration.json model.onnx"
).split()


def write_card(
    folder, metrics_file, training_data, license, languages=(), repo=None
):
    """Writes an inference folder's model card, README.md, and returns its path.

    The figures come from the metrics.json of a verification run of this very
    model; those of another are refused. ``license`` and ``languages`` are
    identifiers of the hub, such as cc-by-4.0 and zh.
    """
    metrics = _figures_of(folder, metrics_file)
    name = repo.split("/")[-1] if repo else "Speaker encoder"
    figures = [
        EvalResult(
            task_type="speaker-verification",
            task_name="Speaker verification",
            dataset_type=trials,
            dataset_name=trials,
            metric_type=kind,
            metric_name=label,
            metric_value=round(factor * found[key], 4),
        )
        for trials, found in metrics["trials"].items()
        for key, kind, label, factor in (
            ("eer", "eer", "EER %", 100),
            ("min_dcf", "mindcf", f"minDCF({found['p_target']})", 1),
        )
        if found[key] is not None
    ]
    data = ModelCardData(
        model_name=name,
        language=list(languages) or None,
        license=license,
        library_name="speechbrain",
        tags=["speechbrain", "speaker-verification", "speaker-embeddings"],
        metrics=["eer", "mindcf"],
        eval_results=figures,
    )
    card = ModelCard.from_template(
        data,
        str(Path(__file__).with_name("card.md")),
        name=name,
        repo=repo or os.path.basename(os.path.abspath(folder)),
        rate=_sample_rate(folder),
        training=read_description(folder),
        data=training_data,
        results=table(metrics["trials"]),
        metrics=metrics,
        license=license,
    )
    path = os.path.join(folder, "README.md")
    with atomic_write(path) as file:
        file.write(str(card))
    return path


def _figures_of(folder, metrics_file):
    """A metrics.json, of this folder's model."""
    model = _encoder_of(folder)
    try:
        with open(metrics_file, encoding="utf-8") as file:
            metrics = json.load(file)
        measured = metrics["trials"] and metrics["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{metrics_file}: not the metrics.json of a verification "
            f"({first_line(error)})"
        ) from error
    if measured != file_digest(model):
        raise UserError(
            f"{metrics_file}: measured another model, {metrics['model']}; run "
            f"speaker_verification_cosine.py --pretrain_path={folder}"
        )
    return metrics


def _encoder_of(folder):
    """The path of an inference folder's encoder."""
    path = os.path.join(folder, "embedding_model.ckpt")
    if not os.path.isfile(path):
        raise UserError(
            f"{folder}: no embedding_model.ckpt; it must be the `inference` "
            "folder of a training"
        )
    return path


def _sample_rate(folder):
    """As the folder's own yaml says, in Hz."""
    with open(os.path.join(folder, "hyperparams.yaml"), encoding="utf-8") as f:
        found = re.search(r"^sample_rate: *(\d+)", f.read(), re.MULTILINE)
    return found[1] if found else "16000"


def upload(folder, repo, private=False):
    """Sends an inference folder to a repository of the model hub.

    HF_TOKEN and HF_ENDPOINT of the environment say who sends it, and where.
    """
    files = public_files(folder)
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Speaker encoder",
        )
    except Exception as error:
        # Each version of the hub's client raises its network library's own.
        raise UserError(
            f"{repo}: not sent ({first_line(error)}); log in with "
            "`hf auth login`, or set HF_TOKEN to a token that may write"
        ) from error
    return str(done)


def public_files(folder):
    """What of an inference folder is sent, name -> bytes; UserError where it
    has no encoder or no card."""
    _encoder_of(folder)
    if not os.path.isfile(os.path.join(folder, "README.md")):
        raise UserError(
            f"{folder}: no README.md; write its model card first: "
            "speechbrain-scl card"
        )
    paths = {name: os.path.join(folder, name) for name in PUBLIC}
    return {
        n: os.path.getsize(p) for n, p in paths.items() if os.path.isfile(p)
    }
