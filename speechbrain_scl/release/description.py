"""What a training did, for those who get its encoder."""

import json
import os

from speechbrain_scl.evaluation.provenance import read_description


def describe_training(hparams, speakers):
    """The objective and the data of an experiment, as it ran.

    Arguments
    ---------
    hparams : dict
        The experiment, as ``training.run.train`` reads it.
    speakers : list of str
        The speaker of each training utterance.

    Returns
    -------
    dict
        Of texts and numbers; no path of the machine.
    """
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
        path = os.path.join(folder.strip(), "corpus.json")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return bool(json.load(file).get("synthetic"))
    return False


def training_in_words(folder):
    """What an inference folder says of its training.

    Arguments
    ---------
    folder : str
        The ``inference`` folder of a training.

    Returns
    -------
    str
        Sentences and a list in Markdown.
    """
    found = read_description(folder)
    if not found:
        return "How it was trained is not recorded in its folder."
    said = [
        f"It was trained for {found['epochs']} epochs on "
        f"{found['utterances']:,} utterances of {found['speakers']:,} speakers"
    ]
    if found["speeds"] != [1.0]:
        said[0] += f" (speeds {found['speeds']} count as speakers)"
    said[0] += ", by"
    said.append(f"\n- classification: `{found['classification']}`")
    names = {
        "contrastive_loss": "supervised contrast",
        "attention": "class-aware attention",
        "balancer": "balancing",
    }
    for key, name in names.items():
        if found.get(key):
            said.append(f"- {name}: `{found[key]}`")
    if found["contrastive_loss"] is None:
        said.append("\nalone, without a contrastive loss.")
    return "\n".join(said)
