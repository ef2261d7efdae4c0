"""Parts of a trial list: by gender, language, duration, ..."""

import csv
import os

import numpy as np

from speechbrain_scl.errors import UserError

UNKNOWN = "unknown"
_TEST_SIDE, _SAME = "test_", "same_"
# Upper edges in seconds; a trial is as long as its shorter side.
_DURATIONS = (2.0, 4.0, 8.0)
# Told apart by hardly any value: names and numbers, not conditions.
_MOST_VALUES = 30


def read_metadata(path, columns):
    """What is known of each utterance or speaker.

    Arguments
    ---------
    path : str
        A CSV file with a column ``path`` (utterances as the trial list names
        them; endings do not count) or ``speaker``, and with ``columns``.
    columns : list of str
        The conditions, e.g. gender, language; ``duration`` is in seconds.
        ``test_X`` and ``same_X`` read the column X.

    Returns
    -------
    dict
        Utterance or speaker -> {column: value}; durations are floats.

    Raises
    ------
    UserError
        A missing file or column, an utterance that comes twice with different
        values, a duration that is no number.

    Example
    -------
    >>> path = getfixture("tmp_path") / "metadata.csv"
    >>> _ = path.write_text("speaker,gender,age\\nann,f,30\\nbob,m,31\\n")
    >>> read_metadata(str(path), ["gender"])
    {'ann': {'gender': 'f'}, 'bob': {'gender': 'm'}}
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such metadata file")
    found = {}
    columns = [_column(column) for column in columns]
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        key = next((k for k in ("path", "speaker") if k in names), None)
        missing = [c for c in columns if c not in names]
        if key is None or missing:
            raise UserError(
                f"{path}: it needs the column path or speaker, and "
                f"{', '.join(columns)}; it has {', '.join(names)}"
            )
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            name = _stem(row[key] or "")
            values = {c: row[c] or UNKNOWN for c in columns}
            if "duration" in values and values["duration"] != UNKNOWN:
                try:
                    values["duration"] = float(values["duration"])
                except ValueError as error:
                    raise UserError(f"{where}: duration: {error}") from error
            if found.setdefault(name, values) != values:
                raise UserError(f"{where}: {row[key]} comes with other values")
    return found


class Conditions:
    """Tells which condition each trial of a list belongs to.

    "column: value" where both sides agree, "column: value - value" where they
    differ, "duration: 2 to 4 s" by the shorter side; of ``test_X`` the test
    side counts alone, as where models are enrolled with several values of X.
    ``same_X`` asks whether both sides agree, of targets and of impostors: "X:
    same", "X: different", and the two mixtures, "X: targets different, impostors
    same" being the hardest.
    An utterance without metadata counts as "unknown"; nothing is dropped.

    Arguments
    ---------
    trials : Trials
        The list.
    metadata : dict
        As ``read_metadata`` returns it.
    columns : list of str
        The conditions to tell apart.
    speaker_of : callable
        An utterance's or enrolment model's name to its speaker's, where the
        metadata knows speakers only.

    Raises
    ------
    UserError
        Nothing is known of any utterance, or a column has too many values.
    """

    def __init__(self, trials, metadata, columns, speaker_of):
        sides = [
            [metadata.get(_stem(n)) or metadata.get(speaker_of(n)) for n in ids]
            for ids in (trials.enrol_ids, trials.test_ids)
        ]
        if not any(row for side in sides for row in side):
            raise UserError(
                f"{trials.path}: the metadata knows none of its utterances, "
                f"such as {trials.enrol_ids[0]}"
            )
        self.columns = columns
        self._codes, self._values = zip(
            *(
                _codes(sides, _column(column), column.startswith(_SAME))
                for column in columns
            )
        )

    def parts(self, trials):
        """The parts of the list, one at a time: each is as long as the list.

        Arguments
        ---------
        trials : Trials
            The list.

        Yields
        ------
        name : str
            What the condition is called.
        chosen : numpy.ndarray
            bool [T].
        """
        for column, codes, values in zip(
            self.columns, self._codes, self._values
        ):
            pair = codes[0][trials.enrol_index], codes[1][trials.test_index]
            low, high = np.minimum(*pair), np.maximum(*pair)
            if column.startswith(_SAME):
                yield from _agreement(column, *pair, trials.labels)
                continue
            if column == "duration":
                high = low
            if column.startswith(_TEST_SIDE):
                low = high = pair[1]
            numbers = low * len(values) + high
            for number in np.unique(numbers).tolist():
                first, second = (values[n] for n in divmod(number, len(values)))
                both = first if first == second else f"{first} - {second}"
                yield f"{column}: {both}", numbers == number


def _column(condition):
    """The metadata's column of a condition."""
    return condition.removeprefix(_TEST_SIDE).removeprefix(_SAME)


def _agreement(condition, first, second, labels):
    """Both sides alike or not, for targets and for impostors."""
    name, same = _column(condition), first == second
    yield f"{name}: same", same
    yield f"{name}: different", ~same
    yield f"{name}: targets different, impostors same", same != labels
    yield f"{name}: targets same, impostors different", same == labels


def _codes(sides, column, many=False):
    """The values of each side's names as numbers, and the values' names."""
    per_side = [
        [row[column] if row else UNKNOWN for row in known] for known in sides
    ]
    if column == "duration":
        values = [*_duration_names(), UNKNOWN]
        per_side = [
            [
                len(_DURATIONS) + 1
                if x == UNKNOWN
                else int(np.searchsorted(_DURATIONS, x, side="right"))
                for x in side
            ]
            for side in per_side
        ]
    else:
        values = sorted({x for side in per_side for x in side})
        if len(values) > _MOST_VALUES and not many:
            raise UserError(
                f"conditions: {column} has {len(values)} values; name columns "
                f"with at most {_MOST_VALUES}"
            )
        number = {x: i for i, x in enumerate(values)}
        per_side = [[number[x] for x in side] for side in per_side]
    return [np.array(side, dtype=np.int32) for side in per_side], values


def _duration_names():
    edges = [f"{x:g}" for x in _DURATIONS]
    between = [f"{a} to {b} s" for a, b in zip(edges, edges[1:])]
    return [f"below {edges[0]} s", *between, f"from {edges[-1]} s"]


def _stem(name):
    root, ending = os.path.splitext(name)
    return root if ending.lower() in (".wav", ".flac") else name
