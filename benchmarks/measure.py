"""What the benchmarks share: runs in turn, processes of their own, tables."""

import argparse
import importlib.util
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from speechbrain_scl.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent


class Spent(NamedTuple):
    """Seconds on the clock, and of the processor: on a machine that does other
    work too, the second say more."""

    clock: float
    cpu: float


def parser(text):
    """For a benchmark of this docstring, which leaves tables in ``output``."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("output", type=Path, help="folder for the tables")
    return made


def _now():
    return time.perf_counter(), time.process_time() + sum(os.times()[2:4])


def spent(function, *args, **kwargs):
    """Seconds that a call took, its finished child processes included."""
    before = _now()
    function(*args, **kwargs)
    return Spent(*(b - a for a, b in zip(before, _now())))


def in_turn(runs, rounds=3, seconds=0):
    """Name -> median ``Spent``: all runs in turn, after one that warms up, for
    so many rounds, and more of them until the seconds are over."""
    for run in runs.values():
        run()
    found = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while rounds > 0 or time.perf_counter() < end:
        rounds -= 1
        for name, run in runs.items():
            found[name].append(spent(run))
    return {name: Spent(*map(median, zip(*all))) for name, all in found.items()}


def alone(function, *args):
    """What a function returns in a process of its own, on one thread: a copy
    of this one, which should have computed nothing."""
    with multiprocessing.get_context("fork").Pool(1, _one_thread) as pool:
        return pool.apply(function, args)


def _one_thread():
    import torch

    torch.set_num_threads(1)


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


def leave(path, text):
    """Shows a text and writes it."""
    print(text, flush=True)
    with atomic_write(path) as file:
        file.write(text)
