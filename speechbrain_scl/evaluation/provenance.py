"""When, with what and by which command a run came about."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import sys

import speechbrain_scl
from speechbrain_scl.values import as_list

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
        ``date`` (with the offset from UTC), ``command``, ``model``, ``data``
        and ``lists`` (as given), ``versions``.

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
