"""Trial lists in the layouts that the field uses."""

import dataclasses
import itertools
import os

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.spool import Spool

LAYOUTS = ("auto", "label_first", "label_last")
LABELS = {
    "1": 1,
    "0": 0,
    "target": 1,
    "nontarget": 0,
    "non-target": 0,
    "imposter": 0,
    "impostor": 0,
}
# Of a trial: the places of its two names, and whether the speaker is the same.
ROW = np.dtype([("enrol", "<i4"), ("test", "<i4"), ("target", "?")])
# Held at once to find one that is listed twice
_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class Trials:
    """Pairs to score. Names are held once, trials are pairs of indices, in
    blocks: a list may be longer than the memory.

    Arguments
    ---------
    path : str
        The list.
    enrol_ids, test_ids : list of str
        The distinct names of each side, in order of appearance.
    rows : Spool
        Of ``ROW``.
    """

    path: str
    enrol_ids: list
    test_ids: list
    rows: Spool

    @property
    def name(self):
        """The list's file name without its ending."""
        return os.path.splitext(os.path.basename(self.path))[0]

    @property
    def enrol_index(self):
        """int32 [T], into the names; all in memory, as the next two."""
        return self.rows.whole()["enrol"]

    @property
    def test_index(self):
        """int32 [T], into the names."""
        return self.rows.whole()["test"]

    @property
    def labels(self):
        """bool [T], True where the speaker is the same."""
        return self.rows.whole()["target"]

    def __len__(self):
        return len(self.rows)

    def line_of(self, name):
        """Where an utterance or model comes first; None where it does not.

        Arguments
        ---------
        name : str
            As the list spells it.

        Returns
        -------
        int or None
        """
        with open(self.path, encoding="utf-8-sig") as file:
            lines = enumerate(file, 1)
            return next((n for n, line in lines if name in line.split()), None)


def read_trials(path, layout="auto", folder=None):
    """Reads a trial list.

    ``1 enrol test`` (VoxCeleb), ``enrol test target`` (Kaldi, wespeaker) and
    ``enrol test 1`` (CN-Celeb); the label is 1 or 0, target or nontarget in
    each of them. Fields are separated by blanks or tabs; blank lines do not
    count.

    Arguments
    ---------
    path : str
        The list.
    layout : str
        ``label_first``, ``label_last``, or ``auto``: the first line shows it.
    folder : str or None
        Where what is too much for the memory may lie (see ``Spool``).

    Returns
    -------
    Trials

    Raises
    ------
    UserError
        A malformed line, an unknown label, a trial that is listed twice, or a
        list without targets or without impostors; with file and line. A first
        line that could be either layout.

    Example
    -------
    >>> path = getfixture("tmp_path") / "trials.txt"
    >>> _ = path.write_text(
    ...     "1 a/1/x.wav a/2/y.wav\\n0\\ta/1/x.wav b/1/z.wav\\n"
    ... )
    >>> trials = read_trials(str(path))
    >>> trials.enrol_ids, trials.labels
    (['a/1/x.wav'], array([ True, False]))
    """
    if layout not in LAYOUTS:
        raise UserError(f"trial_layout={layout!r}: choose one of {LAYOUTS}")
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such trial list")
    enrol, test = _Numbers(), _Numbers()
    rows = Spool(ROW, folder)
    first_line = 1
    with open(path, encoding="utf-8-sig") as file:
        while lines := _lines(path, file):
            if layout == "auto":
                layout = _layout(path, first_line, lines)
            columns = _columns(lines)
            if layout == "label_first":
                columns = [*columns[1:], columns[0]]
            if not LABELS.keys() >= set(columns[2]):
                _refuse(path, first_line, lines, layout)
            block = np.empty(len(columns[2]), dtype=ROW)
            for name, numbers, column in zip(
                ROW.names, (enrol, test, LABELS), columns
            ):
                block[name] = [numbers[x] for x in column]
            rows.append(block)
            first_line += len(lines)
    trials = Trials(str(path), list(enrol), list(test), rows)
    _check(trials)
    return trials


class _Numbers(dict):
    """Numbers names in the order of their appearance."""

    def __missing__(self, name):
        self[name] = number = len(self)
        return number


def _lines(path, file):
    """The next lines; what is no text is an error of one line."""
    try:
        return list(itertools.islice(file, Spool.BLOCK))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8: {error}") from error


def _columns(lines):
    """The three fields of each line that has any; empty ones of a line with
    another number of fields."""
    columns = [], [], []
    first, second, third = (column.append for column in columns)
    for line in lines:
        # No list of each line's fields stays: the garbage collector would
        # visit them all, again and again.
        try:
            one, two, three = line.split()
        except ValueError:
            if not line.strip():
                continue
            one = two = three = ""
        first(one)
        second(two)
        third(three)
    return columns


def _refuse(path, first_line, lines, layout):
    """Says which of some lines is malformed."""
    for number, line in enumerate(lines, first_line):
        fields = line.split()
        if len(fields) not in (0, 3):
            raise UserError(
                f"{path}, line {number}: {len(fields)} fields instead of "
                f"three (label enrolment test, or enrolment test label): "
                f"{line.strip()!r}"
            )
        label = fields and fields[0 if layout == "label_first" else 2]
        if fields and label not in LABELS:
            raise UserError(
                f"{path}, line {number}: the label is {label!r}; it must "
                "be 1 or 0, target or nontarget"
            )


def _layout(path, first_line, lines):
    """The layout that the first trial shows; auto where there is none yet."""
    for number, line in enumerate(lines, first_line):
        fields = line.split()
        if len(fields) == 3:
            break
        if fields:
            return "label_last"  # refused, whatever it is
    else:
        return "auto"
    first, last = fields[0] in LABELS, fields[2] in LABELS
    if first and last:
        raise UserError(
            f"{path}, line {number}: the label could be {fields[0]} or "
            f"{fields[2]}; say which with trial_layout: label_first or "
            "label_last"
        )
    return "label_first" if first else "label_last"


def _check(trials):
    if len(trials) == 0:
        raise UserError(f"{trials.path}: it holds no trial")
    n_targets = sum(
        np.count_nonzero(rows["target"]) for rows in trials.rows.blocks()
    )
    if n_targets in (0, len(trials)):
        missing = "a target" if n_targets == 0 else "an impostor"
        raise UserError(
            f"{trials.path}: none of its {len(trials)} trials is {missing}; "
            "no error rate can be measured"
        )
    parts = -(-len(trials) // _PAIRS)
    repeated = [_first_repeated(trials, parts, part) for part in range(parts)]
    twice = min(filter(None, repeated), default=None)
    if twice:
        number, pair = twice
        enrol, test = divmod(pair, len(trials.test_ids))
        raise UserError(
            f"{trials.path}, line {_line(trials.path, number)}: the trial "
            f"{trials.enrol_ids[enrol]} {trials.test_ids[test]} is listed "
            "before"
        )


def _first_repeated(trials, parts, part):
    """The first trial that was listed before, and its pair of names as a
    number; of one part of all pairs."""
    places, pairs, start = [], [], 0
    for rows in trials.rows.blocks():
        pair = rows["enrol"].astype(np.int64) * len(trials.test_ids)
        pair += rows["test"]
        chosen = np.flatnonzero(pair % parts == part)
        places.append(chosen + start)
        pairs.append(pair[chosen])
        start += len(rows)
    pairs = np.concatenate(pairs)
    _, first = np.unique(pairs, return_index=True)
    if len(first) == len(pairs):
        return None
    again = np.ones(len(pairs), dtype=bool)
    again[first] = False
    return int(np.concatenate(places)[again][0]), int(pairs[again][0])


def _line(path, trial):
    """The line of a trial, without the blank ones."""
    with open(path, encoding="utf-8-sig") as file:
        lines = (n for n, line in enumerate(file, 1) if line.strip())
        return next(itertools.islice(lines, trial, None))
