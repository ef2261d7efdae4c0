"""What the benchmarks share: options, runs in turn, processes of their own, tables."""

import argparse
import importlib.util
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from speechbrain_scl.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
THREADS = "OMP_NUM_THREADS"


class Spent(NamedTuple):
    """Seconds on the clock, and of the processor: on a machine that does other
    work too, the second say more."""

    clock: float
    cpu: float


def options(text, **known):
    """Reads the command line of a benchmark of this docstring, which leaves its
    tables in ``output``. Name -> default, or (default, help, choices): a list
    takes several values; None is a path that must be given."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="folder for the tables")
    for name, about in known.items():
        default, *more = about if isinstance(about, tuple) else (about,)
        how = {"default": default, "required": default is None}
        how |= zip(("help", "choices"), more)
        if isinstance(default, list):
            how |= {"nargs": "+", "type": type((default or [0])[0])}
        else:
            how["type"] = Path if default is None else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", **how)
    return parser.parse_args()


def _now():
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time() + sum(os.times()[2:4])


def spent(function, *args, **kwargs):
    """What a call returns, and what it took, with its finished child processes
    (``Spent``)."""
    before = _now()
    found = function(*args, **kwargs)
    return found, Spent(*(b - a for a, b in zip(before, _now())))


def spent_here(function):
    """A call's ``Spent``, and its peak of memory above what there was, MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = peak_mib()
    return spent(function)[1], peak_mib() - before


def in_turn(runs, rounds=3, seconds=0):
    """Name -> ``Spent`` of arrays [rounds]: all runs in turn, after one that
    warms up, for so many rounds, and more of them until the seconds are over.
    """
    for run in runs.values():
        run()
    found = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    names = list(runs)
    while rounds > 0 or time.perf_counter() < end:
        rounds -= 1
        for name in names:
            found[name].append(spent(runs[name])[1])
        names.reverse()  # who goes second finds another cache
    return {name: Spent(*np.transpose(all)) for name, all in found.items()}


def alone(function, *args):
    """What a function returns in a process of its own, on one thread or as many
    as OMP_NUM_THREADS has: a copy of this one, which has computed nothing."""
    context, n = multiprocessing.get_context("fork"), os.environ.get(THREADS, 1)
    with context.Pool(1, torch.set_num_threads, (int(n),)) as pool:
        return pool.apply(function, args)


def peak_mib():
    """The process's own peak of memory so far."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def module(path, name):
    """A recipe's script as a module; two recipes have the same file names.

    SpeechBrain's lazy modules look up who uses them, at each use: slowly and
    in vain if it were not registered.
    """
    spec = importlib.util.spec_from_file_location(f"{name}_{path.stem}", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def table(head, rows):
    """Markdown; cells are texts."""
    lines = [head, ["--:"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def leave(path, text, rows=None):
    """Shows a text, or a table's head and rows, and writes it."""
    text = text if rows is None else table(text, rows)
    print(text, flush=True)
    with atomic_write(path) as file:
        file.write(text)
