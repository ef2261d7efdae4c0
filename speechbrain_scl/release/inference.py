"""Leaves a trained encoder as a folder that SpeechBrain's inference loads."""

import contextlib
import inspect
import io
import json
import os
from pathlib import Path

import ruamel.yaml
import torch
from hyperpyyaml.core import resolve_references

from speechbrain_scl.evaluation.encoder import with_checksum
from speechbrain_scl.evaluation.store import DESCRIPTION
from speechbrain_scl.files import atomic_folder, write_json

# What EncoderClassifier and SpeakerRecognition need, in the training file's
# own words.
_KEPT = ("compute_features", "mean_var_norm", "embedding_model", "classifier")

_LOADING = """
# Loaded from the folder (or hub repository) that holds this file.
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False

label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder

modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
"""


def save_inference_folder(
    folder, hparams_file, overrides, modules, label_encoder, training=None
):
    """Writes what ``speechbrain.inference`` needs to use a trained encoder, and
    no code of this package, in the place of what the folder held: the model's
    part of the hyperparameter file under its overrides, the parameters of
    ``modules``, the classes' speakers, and what ``describe_training`` says."""
    with open(hparams_file, encoding="utf-8") as file:
        resolved = resolve_references(file, overrides)
    round_trip = ruamel.yaml.YAML()
    resolved.seek(0)
    tree = round_trip.load(resolved)
    kept = {"sample_rate": tree.get("sample_rate", 16000)}
    kept.update((key, tree[key]) for key in _KEPT)

    text = io.StringIO()
    round_trip.dump(kept, text)
    # The training file's comments stand beside other keys than these.
    lines = text.getvalue().splitlines(keepends=True)
    model = "".join(x for x in lines if not x.lstrip().startswith("#"))
    with atomic_folder(folder) as aside:
        path = Path(aside, "hyperparams.yaml")
        path.write_text(with_checksum(model + _LOADING), encoding="utf-8")
        for name in ("embedding_model", "classifier"):
            state = {k: v.cpu() for k, v in modules[name].state_dict().items()}
            torch.save(state, os.path.join(aside, f"{name}.ckpt"))
        label_encoder.save(os.path.join(aside, "label_encoder.ckpt"))
        if training is not None:
            write_json(os.path.join(aside, DESCRIPTION), training)


def describe_training(hparams, speakers):
    """The objective and the data of an experiment, as it ran."""
    objective = hparams["objective"]
    classification = objective.classification
    classification = getattr(classification, "loss_fn", classification)
    found = {
        "classification": _with_options(classification),
        "contrastive_loss": _with_options(objective.contrastive),
        "speakers": len(set(speakers)),
        "synthetic": _is_synthetic(hparams.get("data_folder") or []),
        "utterances": len(speakers),
        "epochs": hparams["epoch_counter"].limit,
        "speeds": list(hparams.get("speeds") or [1.0]),
    }
    if objective.contrastive is not None:
        found["attention"] = _with_options(objective.attention)
        found["balancer"] = _with_options(objective.balancer)
        found["balance_at"] = hparams.get("balance_at", "embedding")
    return found


def _with_options(part):
    """A part of the objective in words, by what it was made with and keeps;
    None where there is no such part."""
    if part is None:
        return None
    kept = vars(part)
    named = [*inspect.signature(type(part)).parameters, "constant"]
    names = [name for name in named if name in kept]
    said = ", ".join(f"{name}={kept[name]}" for name in names)
    return f"{type(part).__name__}({said})"


def _is_synthetic(folders):
    """Whether a corpus.json in one of a corpus's folders says so."""
    for folder in folders.split(",") if isinstance(folders, str) else folders:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            text = Path(folder.strip(), "corpus.json").read_text("utf-8")
            if json.loads(text).get("synthetic") is True:
                return True
    return False
