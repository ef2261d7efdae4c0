"""Parts of a trial list: by gender, language, duration, ..."""

import csv
import io
import math
import os
from bisect import bisect

import numpy as np

from speechbrain_scl.data.audio import READABLE
from speechbrain_scl.data.tables import read_text
from speechbrain_scl.errors import UserError

UNKNOWN = "unknown"
_TEST_SIDE, _SAME = "test_", "same_"
# Upper edges in seconds; a trial is as long as its shorter side.
_EDGES = (2.0, 4.0, 8.0)
_DURATIONS = ("below 2 s", "2 to 4 s", "4 to 8 s", "from 8 s")
_MIXTURES = (
    "targets different, impostors same",
    "targets same, impostors different",
)
# Told apart by hardly any value: names and numbers, not conditions.
_MOST_VALUES = 30


def read_metadata(path, columns):
    """Utterance or speaker -> {column: value}, of a CSV file with a column
    ``path`` (utterances as the trial list names them; endings do not count) or
    ``speaker``, and with ``columns``; ``duration`` is in seconds; ``test_X`` and
    ``same_X`` read the column X."""
    found = {}
    columns = [_column(condition) for condition in columns]
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    names = reader.fieldnames or []
    key = next((k for k in ("path", "speaker") if k in names), None)
    if key is None or not set(columns) <= set(names):
        raise UserError(
            f"{path}: it needs the column path or speaker, and "
            f"{', '.join(columns)}; it has {', '.join(names)}"
        )
    try:
        for row in reader:
            if None in row:
                raise ValueError(f"{len(row[None])} fields too many")
            values = {c: row[c] or UNKNOWN for c in columns}
            if values.get("duration", UNKNOWN) != UNKNOWN:
                values["duration"] = _duration(values["duration"])
            if found.setdefault(_stem(row[key] or ""), values) != values:
                raise ValueError(f"{row[key]} comes with other values")
    except (ValueError, csv.Error) as error:
        line = f"{path}, line {reader.line_num}"
        raise UserError(f"{line}: {error}") from error
    return found


def _duration(text):
    """Of which of the durations so many seconds are."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"duration: {text} seconds")
    return _DURATIONS[bisect(_EDGES, value)]


def conditions(trials, metadata, columns, speaker_of):
    """Column by column: names of conditions of which each trial of a list has
    one, and its number (int16 [T]).

    "column: value" where both sides agree, "column: value - value" where they
    differ, "duration: 2 to 4 s" by the shorter side; of ``test_X`` the test
    side counts alone. ``same_X`` asks whether both sides agree: "X: same", "X:
    different", and the mixtures, "X: targets different, impostors same" being
    the hardest. What has no metadata counts as "unknown"; nothing is dropped.
    ``speaker_of`` is for metadata that know speakers only.
    """
    sides = [
        [metadata.get(_stem(n)) or metadata.get(speaker_of(n)) for n in names]
        for names in (trials.enrol_ids, trials.test_ids)
    ]
    if not any(row for side in sides for row in side):
        raise UserError(
            f"{trials.path}: the metadata knows none of its utterances, "
            f"such as {trials.enrol_ids[0]}"
        )
    found = []
    for condition in columns:
        column, asks_same = _column(condition), condition.startswith(_SAME)
        values, *codes = _codes(sides, column, asks_same)
        enrol, test = codes[0][trials.enrol_index], codes[1][trials.test_index]
        if asks_same:
            same = enrol == test
            for names, which in (
                (("same", "different"), ~same),
                (_MIXTURES, same == trials.labels),
            ):
                found.append(([f"{column}: {name}" for name in names], which))
            continue
        low, high = np.minimum(enrol, test), np.maximum(enrol, test)
        if condition == "duration":
            high = low
        elif condition.startswith(_TEST_SIDE):
            low = high = test
        pairs, which = np.unique(low * len(values) + high, return_inverse=True)
        names = [
            f"{condition}: {values[a]}" + (f" - {values[b]}" if a != b else "")
            for a, b in zip(*np.divmod(pairs, len(values)))
        ]
        found.append((names, which))
    return [(names, which.astype(np.int16)) for names, which in found]


def _column(condition):
    return condition.removeprefix(_TEST_SIDE).removeprefix(_SAME)


def _codes(sides, column, many=False):
    """The column's values, and for each side the number of each name's."""
    found = [
        [row[column] if row else UNKNOWN for row in side] for side in sides
    ]
    values = sorted({value for side in found for value in side})
    if column == "duration":  # the shorter ones first
        values = [*_DURATIONS, UNKNOWN]
    elif len(values) > _MOST_VALUES and not many:
        raise UserError(
            f"conditions: {column} has {len(values)} values; name columns "
            f"with at most {_MOST_VALUES}"
        )
    number = {value: i for i, value in enumerate(values)}
    codes = ([number[x] for x in side] for side in found)
    return values, *(np.array(side, dtype=np.int32) for side in codes)


def _stem(name):
    root, ending = os.path.splitext(name)
    return root if ending.lower() in READABLE else name
