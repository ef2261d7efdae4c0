"""When, with what and by which command a run and its model came about."""

import csv
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import sys

import speechbrain_scl
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.errors import UserError

# In an inference folder: the objective and the data of its training
DESCRIPTION = "training.json"
_PACKAGES = ("speechbrain", "torch", "torchaudio", "numpy")


def describe_run(params):
    """What somebody needs to do a verification run again."""
    return {
        **describe_call(),
        "model": params["pretrain_path"],
        "data": as_list(params["data_folder"], "data_folder"),
        "lists": as_list(params["verification_file"], "verification_file"),
        "training": read_description(params["pretrain_path"]),
    }


def describe_call():
    """Date (with the offset from UTC), command and versions of this process."""
    program = os.path.basename(sys.argv[0])
    return {
        "date": datetime.datetime.now().astimezone().strftime("%F %H:%M %z"),
        "command": shlex.join(["python", program, *sys.argv[1:]]),
        "versions": {
            "speechbrain_scl": speechbrain_scl.__version__,
            "Python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def read_description(folder):
    """What an inference folder says of its training; empty where nothing."""
    path = os.path.join(folder, DESCRIPTION)
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not what a training run leaves ({error}); remove it, or "
            "save the inference folder again"
        ) from error


def find_training_log(folder):
    """The train_log.txt beside an inference folder, or None."""
    path = os.path.join(
        os.path.dirname(os.path.abspath(folder)), "train_log.txt"
    )
    return path if os.path.isdir(folder) and os.path.isfile(path) else None


def read_suspects(folder, most=10):
    """The worst rows of a training run's suspects.csv, as dicts, with ``wav``, the
    recording: utterances that another speaker's class fits better."""
    found = _rows(os.path.join(folder, "suspects.csv"))[:most]
    wanted = {row["utterance"] for row in found}
    manifest = _rows(os.path.join(folder, "save", "train.csv")) if found else []
    wavs = {row["ID"]: row["wav"] for row in manifest if row["ID"] in wanted}
    return [{**row, "wav": wavs.get(row["utterance"])} for row in found]


def _rows(path):
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return list(csv.DictReader(file))


def read_training_log(path):
    """Epoch -> name -> number. Of an epoch that was run again, the last; what is
    damaged is left out."""
    epochs = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = re.findall(
                r"(\w+): (-?\d+(?:\.\d*)?(?:e[+-]?\d+)?|nan|-?inf)\b", line
            )
            values = {name: float(value) for name, value in found}
            if math.isfinite(values.get("epoch", math.nan)):
                epochs[int(values["epoch"])] = values
    return dict(sorted(epochs.items()))
