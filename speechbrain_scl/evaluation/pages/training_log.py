"""What a training wrote down of itself, epoch by epoch."""

import os
import re

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from speechbrain_scl.evaluation.plots import IMPOSTOR, TARGET

_PANELS = {
    "loss": ["classification", "contrastive"],
    "balancing weight": ["weight_classification", "weight_contrastive"],
    "validation EER (%)": ["EER"],
}


def find_training_log(inference_folder):
    """The log of the training that left an inference folder.

    Arguments
    ---------
    inference_folder : str
        The folder, or the name of a hub repository.

    Returns
    -------
    str or None
        None where there is no log beside the folder.
    """
    folder = os.path.dirname(os.path.abspath(inference_folder))
    path = os.path.join(folder, "train_log.txt")
    is_training = os.path.isdir(inference_folder) and os.path.isfile(path)
    return path if is_training else None


def read_training_log(path):
    """The figures of each epoch.

    Arguments
    ---------
    path : str
        A train_log.txt.

    Returns
    -------
    dict
        Epoch -> name -> number. Of an epoch that was run again, the last.

    Example
    -------
    >>> path = getfixture("tmp_path") / "train_log.txt"
    >>> text = "epoch: 1, lr: 1e-3 - train loss: 4.5 - valid EER: 2.5e-01"
    >>> _ = path.write_text(text)
    >>> read_training_log(str(path))
    {1: {'epoch': 1.0, 'lr': 0.001, 'loss': 4.5, 'EER': 0.25}}
    """
    epochs = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            found = re.findall(r"(\w+): (-?\d[\d.e+-]*|nan|-?inf)\b", line)
            values = {name: float(value) for name, value in found}
            if "epoch" in values:
                epochs[int(values["epoch"])] = values
    return dict(sorted(epochs.items()))


def training_curves(epochs):
    """Losses, balancing weights and error rate over the epochs.

    Arguments
    ---------
    epochs : dict
        As ``read_training_log`` gives them.

    Returns
    -------
    dict
        What is shown -> matplotlib.figure.Figure.
    """
    if any("classification" in values for values in epochs.values()):
        panels = _PANELS
    else:  # one objective alone: its loss is all there is
        panels = {"loss": ["loss"], "validation EER (%)": ["EER"]}
    figures = {}
    for title, names in panels.items():
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axis = figure.subplots()
        for color, name in zip((TARGET, IMPOSTOR), names):
            at = [e for e, values in epochs.items() if name in values]
            factor = 100 if name == "EER" else 1
            axis.plot(
                at,
                [factor * epochs[e][name] for e in at],
                marker="." if len(at) < 30 else None,
                color=color,
                label=name.split("_")[-1],
            )
        if len(names) > 1:
            axis.legend(fontsize=8, frameon=False)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        figures[title] = figure
    return figures
