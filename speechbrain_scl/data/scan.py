"""Judging millions of files: by several processes, and none twice."""

import itertools
import json
import os
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from tqdm import tqdm

from speechbrain_scl.data.audio import (
    AudioFile,
    Excluded,
    check_audio,
    check_name,
)
from speechbrain_scl.errors import UserError

_CHUNK = 256  # files that a process judges at a time
_AHEAD = 4  # chunks that wait for each process


class Scan:
    """What was found in each file, in a journal that grows as files are judged.

    A scan that is killed goes on where it was: what the journal holds, of files
    that have not changed since, is not judged again. Nothing of it is held in
    memory.

    Arguments
    ---------
    journal : str
        The file: a line of options, then a line of JSON per audio file.

    Yields
    ------
    AudioFile or Excluded
        By iterating, as often as wanted; in the order of the paths.

    Example
    -------
    >>> import numpy as np, soundfile
    >>> folder = getfixture("tmp_path")
    >>> path = str(folder / "a.wav")
    >>> soundfile.write(path, np.zeros(16000), 16000)
    >>> scan = Scan(str(folder / "scan.jsonl"))
    >>> scan.run([path], sample_rate=16000)
    1
    >>> [file.samples for file in scan]
    [16000]
    """

    def __init__(self, journal):
        self.journal = journal

    def run(self, paths, n_workers=0, **options):
        """Judges files.

        Arguments
        ---------
        paths : iterable of str
            The files, in the same order at each run.
        n_workers : int
            Processes that judge; 0 takes threads of this one.
        **options : dict
            Those of ``check_audio``.

        Returns
        -------
        int
            How many files there are.

        Raises
        ------
        UserError
            An unknown ``check``; memory that does not suffice, or a process
            that was killed: what had been judged is kept.
        """
        check_name(options.get("check", "headers"))
        os.makedirs(os.path.dirname(self.journal) or ".", exist_ok=True)
        n = n_workers or os.cpu_count()
        with (
            open(self.journal, "a+b") as file,
            _pool(n_workers) as workers,
            tqdm(desc="Checking audio", unit="file", dynamic_ncols=True) as bar,
        ):
            paths = iter(paths)
            n_done, rest = _resume(file, options, paths)
            bar.update(n_done)
            rest = itertools.chain(rest, paths)
            chunks = iter(lambda: list(itertools.islice(rest, _CHUNK)), [])
            jobs = ((_records, chunk, options) for chunk in chunks)
            try:
                for lines in in_order(workers, jobs, _AHEAD * n):
                    file.writelines(lines)
                    file.flush()
                    bar.update(len(lines))
                    n_done += len(lines)
            except (BrokenProcessPool, MemoryError) as error:
                raise UserError(
                    f"prep_workers={n_workers}: memory did not suffice, or "
                    f"a process that judges files was killed; {n_done} files "
                    f"are judged and kept in {self.journal}, and the same "
                    "command goes on from there; --prep_workers=1 takes the "
                    "least memory"
                ) from error
            return n_done

    def __iter__(self):
        with open(self.journal, encoding="ascii") as file:
            next(file)  # the options
            for line in file:
                _, _, *found = json.loads(line)
                kind = Excluded if isinstance(found[-1], str) else AudioFile
                yield kind(*found)

    def remove(self):
        """Deletes the journal, when all is done."""
        os.remove(self.journal)


def _pool(n_workers):
    """Decoding and file access release the interpreter's lock; the rest of a
    check does not, so that threads keep some two cores busy."""
    if not n_workers:
        return ThreadPoolExecutor(os.cpu_count())
    # A copy of a process that has threads of its own may hang: new ones.
    return ProcessPoolExecutor(n_workers, get_context("spawn"))


def _resume(file, options, paths):
    """Skips the files that the journal knows; how many, and the path that it
    took too many, if there is one. The journal ends where it is right."""
    head = json.dumps(options, sort_keys=True).encode() + b"\n"
    file.seek(0)
    if file.readline() != head:
        file.truncate(0)
        file.write(head)
        return 0, []
    n = 0
    for path in paths:
        end = file.tell()
        if not _holds(file.readline(), path):
            file.truncate(end)
            return n, [path]
        n += 1
    file.truncate(file.tell())
    return n, []


def _holds(line, path):
    """Whether a line, if it is whole, is of this file as it is now."""
    if not line.endswith(b"\n"):
        return False
    known, state, *_ = json.loads(line)
    return known == path and state == _file_state(path)


def _file_state(path):
    """Changes with the content; None of a link into nowhere."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _records(paths, options):
    """The lines of some files."""
    lines = []
    for path in paths:
        state = _file_state(path)  # as it was before it was read
        found = vars(check_audio(path, **options)).values()
        lines.append(json.dumps([path, state, *found]).encode() + b"\n")
    return lines


def in_order(pool, jobs, ahead):
    """The results of jobs of which only a few wait: a list of all of them
    would grow with the files.

    Arguments
    ---------
    pool : concurrent.futures.Executor
        Who does them.
    jobs : iterable of tuple
        A function and its arguments.
    ahead : int
        How many wait.

    Yields
    ------
    object
        What each function returns, in the order of the jobs.

    Example
    -------
    >>> with ThreadPoolExecutor() as pool:
    ...     list(in_order(pool, [(pow, 2, 3), (abs, -1)], ahead=1))
    [8, 1]
    """
    waiting = deque()
    for job in jobs:
        waiting.append(pool.submit(*job))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
