"""When, with what and by which command a run came about."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys

import speechbrain_scl
from speechbrain_scl.values import as_list

# In an inference folder: the objective and the data of its training
DESCRIPTION = "training.json"
_PACKAGES = ("speechbrain", "torch", "torchaudio", "numpy")


def describe_run(params):
    """What somebody needs to do a verification run again.

    Arguments
    ---------
    params : dict
        The experiment: ``pretrain_path``, ``data_folder`` and
        ``verification_file``.

    Returns
    -------
    dict
        What ``describe_call`` says, ``model``, ``data`` and ``lists`` (as
        given), and ``training``: what the model's folder says of it.

    Example
    -------
    >>> run = describe_run(
    ...     {
    ...         "pretrain_path": "results/ann/inference",
    ...         "data_folder": "data",
    ...         "verification_file": ["a.txt", "b.txt"],
    ...     }
    ... )
    >>> run["model"], run["data"], run["lists"]
    ('results/ann/inference', ['data'], ['a.txt', 'b.txt'])
    """
    return {
        **describe_call(),
        "model": params["pretrain_path"],
        "data": as_list(params["data_folder"], "data_folder"),
        "lists": as_list(params["verification_file"], "verification_file"),
        "training": read_description(params["pretrain_path"]),
    }


def describe_call():
    """When, how and with what this program was started.

    Returns
    -------
    dict
        ``date`` (with the offset from UTC), ``command`` and ``versions``.
    """
    now = datetime.datetime.now().astimezone()
    versions = {
        "speechbrain_scl": speechbrain_scl.__version__,
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        versions[name] = importlib.metadata.version(name)
    program = os.path.basename(sys.argv[0])
    return {
        "date": now.strftime("%Y-%m-%d %H:%M %z"),
        "command": shlex.join(["python", program, *sys.argv[1:]]),
        "versions": versions,
    }


def read_description(folder):
    """The objective and the data of a training.

    Arguments
    ---------
    folder : str
        The ``inference`` folder of a training, or the name of a hub
        repository.

    Returns
    -------
    dict
        As ``release.description`` writes it; empty where nothing is said.
    """
    path = os.path.join(folder, DESCRIPTION)
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)
