"""What a training did, for those who get its encoder."""

import contextlib
import json
import os


def describe_training(hparams, speakers):
    """The objective and the data of an experiment, as it ran."""
    objective = hparams["objective"]
    classification = objective.classification
    classification = getattr(classification, "loss_fn", classification)
    margin, scale = (
        getattr(classification, key, None) for key in ("margin", "scale")
    )
    found = {
        "classification": type(classification).__name__
        + (f"(margin={margin:g}, scale={scale:g})" if scale else ""),
        "contrastive_loss": None,
        "speakers": len(set(speakers)),
        "synthetic": _is_synthetic(hparams.get("data_folder") or []),
        "utterances": len(speakers),
        "epochs": hparams["epoch_counter"].limit,
        "speeds": list(hparams.get("speeds") or [1.0]),
    }
    if objective.contrastive is not None:
        found["contrastive_loss"] = str(objective.contrastive)
        attention = objective.attention
        found["attention"] = None if attention is None else str(attention)
        found["balancer"] = str(objective.balancer)
        found["balance_at"] = hparams.get("balance_at", "embedding")
    return found


def _is_synthetic(folders):
    """Whether a corpus.json in one of a corpus's folders says so."""
    if isinstance(folders, str):
        folders = folders.split(",")
    for folder in folders:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            path = os.path.join(folder.strip(), "corpus.json")
            with open(path, encoding="utf-8") as file:
                if json.load(file).get("synthetic") is True:
                    return True
    return False
