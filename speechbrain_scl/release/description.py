"""What a training did, for those who get its encoder."""

import contextlib
import inspect
import json
import os


def describe_training(hparams, speakers):
    """The objective and the data of an experiment, as it ran."""
    objective = hparams["objective"]
    classification = objective.classification
    classification = getattr(classification, "loss_fn", classification)
    found = {
        "classification": _with_options(classification),
        "contrastive_loss": None,
        "speakers": len(set(speakers)),
        "synthetic": _is_synthetic(hparams.get("data_folder") or []),
        "utterances": len(speakers),
        "epochs": hparams["epoch_counter"].limit,
        "speeds": list(hparams.get("speeds") or [1.0]),
    }
    if objective.contrastive is not None:
        found["contrastive_loss"] = _with_options(objective.contrastive)
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
            path = os.path.join(folder.strip(), "corpus.json")
            with open(path, encoding="utf-8") as file:
                if json.load(file).get("synthetic") is True:
                    return True
    return False
