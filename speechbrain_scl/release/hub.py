"""A trained encoder on a model hub: its card, and its upload."""

import json
import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData

from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.evaluation.results import table
from speechbrain_scl.evaluation.store import file_digest, read_description
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
    path = os.path.join(folder, "README.md")
    model = Path(folder, "hyperparams.yaml").read_text(encoding="utf-8")
    rate = re.search(r"^sample_rate: *(\d+)", model, re.MULTILINE)
    name = repo.split("/")[-1] if repo else "Speaker encoder"
    figures = [
        EvalResult(
            task_type="speaker-verification",
            task_name="Speaker verification",
            dataset_type=trials,
            dataset_name=trials,
            metric_type=key.replace("_", ""),
            metric_name=label,
            metric_value=round(unit * found[key], 4),
        )
        for trials, found in metrics["trials"].items()
        for label, key, unit in (
            ("EER %", "eer", 100),
            (f"minDCF({found['p_target']})", "min_dcf", 1),
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
        rate=rate[1] if rate else 16000,
        training=read_description(folder),
        data=training_data,
        results=table(metrics["trials"]),
        metrics=metrics,
        license=license,
    )
    with atomic_write(path) as file:
        file.write(str(card))
    return path


def _figures_of(folder, metrics_file):
    """A metrics.json, of this folder's model."""
    model = _encoder_of(folder)
    try:
        metrics = json.loads(Path(metrics_file).read_text(encoding="utf-8"))
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
    path = os.path.join(folder, "embedding_model.ckpt")
    if not os.path.isfile(path):
        raise UserError(
            f"{folder}: no embedding_model.ckpt; it must be the `inference` "
            "folder of a training"
        )
    return path


def upload(folder, repo, private=False):
    """Sends an inference folder to a repository of the model hub.

    HF_TOKEN and HF_ENDPOINT of the environment say who sends it, and where.
    """
    files = list(public_files(folder))
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=files,
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
    """What of an inference folder is sent, name -> bytes; refuses one without
    an encoder or a card."""
    _encoder_of(folder)
    paths = [path for n in PUBLIC if (path := Path(folder, n)).is_file()]
    if Path(folder, "README.md") not in paths:
        raise UserError(
            f"{folder}: no README.md; write its model card first: "
            "speechbrain-scl card"
        )
    return {path.name: path.stat().st_size for path in paths}
