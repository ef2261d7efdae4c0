"""Trial lists in the layouts that the field uses."""

import dataclasses
import os
from array import array

import numpy as np

from speechbrain_scl.errors import UserError

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


@dataclasses.dataclass(frozen=True)
class Trials:
    """Pairs to score. Names are held once, trials are pairs of indices.

    Arguments
    ---------
    path : str
        The list.
    enrol_ids, test_ids : list of str
        The distinct names of each side, in order of appearance.
    enrol_index, test_index : numpy.ndarray
        int32 [T], into the names.
    labels : numpy.ndarray
        bool [T], True where the speaker is the same.
    """

    path: str
    enrol_ids: list
    test_ids: list
    enrol_index: np.ndarray
    test_index: np.ndarray
    labels: np.ndarray

    @property
    def name(self):
        """The list's file name without its ending."""
        return os.path.splitext(os.path.basename(self.path))[0]

    def __len__(self):
        return len(self.labels)

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


def read_trials(path, layout="auto"):
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
    enrol, test = {}, {}
    # Flat arrays: 3.5 million trials stay small.
    enrol_index, test_index, lines = array("i"), array("i"), array("i")
    labels = array("b")
    label_first = None
    with open(path, encoding="utf-8-sig") as file:
        for number, line in _lines(path, file):
            fields = line.split()
            if not fields:
                continue
            if len(fields) != 3:
                raise UserError(
                    f"{path}, line {number}: {len(fields)} fields instead of "
                    f"three (label enrolment test, or enrolment test label): "
                    f"{line.strip()!r}"
                )
            if label_first is None:
                label_first = _label_first(path, number, fields, layout)
            if label_first:
                label, first, second = fields
            else:
                first, second, label = fields
            if label not in LABELS:
                raise UserError(
                    f"{path}, line {number}: the label is {label!r}; it must "
                    "be 1 or 0, target or nontarget"
                )
            enrol_index.append(enrol.setdefault(first, len(enrol)))
            test_index.append(test.setdefault(second, len(test)))
            labels.append(LABELS[label])
            lines.append(number)
    trials = Trials(
        str(path),
        list(enrol),
        list(test),
        np.array(enrol_index, dtype=np.int32),
        np.array(test_index, dtype=np.int32),
        np.array(labels, dtype=bool),
    )
    _check(trials, lines)
    return trials


def _lines(path, file):
    """Numbered lines; what is no text is an error of one line."""
    try:
        yield from enumerate(file, 1)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8: {error}") from error


def _label_first(path, number, fields, layout):
    if layout != "auto":
        return layout == "label_first"
    first, last = fields[0] in LABELS, fields[2] in LABELS
    if first and last:
        raise UserError(
            f"{path}, line {number}: the label could be {fields[0]} or "
            f"{fields[2]}; say which with trial_layout: label_first or "
            "label_last"
        )
    return first


def _check(trials, lines):
    if len(trials) == 0:
        raise UserError(f"{trials.path}: it holds no trial")
    n_targets = int(trials.labels.sum())
    if n_targets in (0, len(trials)):
        missing = "a target" if n_targets == 0 else "an impostor"
        raise UserError(
            f"{trials.path}: none of its {len(trials)} trials is {missing}; "
            "no error rate can be measured"
        )
    pair = trials.enrol_index.astype(np.int64) * len(trials.test_ids)
    pair += trials.test_index
    _, first = np.unique(pair, return_index=True)
    if len(first) < len(trials):
        twice = np.setdiff1d(np.arange(len(trials)), first)[0]
        raise UserError(
            f"{trials.path}, line {lines[twice]}: the trial "
            f"{trials.enrol_ids[trials.enrol_index[twice]]} "
            f"{trials.test_ids[trials.test_index[twice]]} is listed before"
        )
