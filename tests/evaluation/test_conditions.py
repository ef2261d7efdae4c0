"""Conditions against sorting the trials by hand."""

import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.conditions import conditions, read_metadata
from speechbrain_scl.evaluation.trials import read_trials

LINES = """\
1 ann/1/a.wav ann/1/b.wav
0 ann/1/a.wav bob/1/a.wav
0 bob/1/a.wav cleo/1/a.wav
1 cleo/1/a.wav cleo/1/b.wav
0 dan/1/a.wav bob/1/a.wav
"""


@pytest.fixture
def trials(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text(LINES)
    return read_trials(str(path))


def speaker_of(name):
    return name.split("/")[0]


def split_by_conditions(trials, *args):
    """Name -> bool [T]."""
    return {
        name: which == i
        for names, which in conditions(trials, *args)
        for i, name in enumerate(names)
    }


def write(tmp_path, text):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    return str(path)


def test_pairs_of_values_have_no_order_and_nothing_is_dropped(trials, tmp_path):
    path = write(
        tmp_path, "speaker,gender,language\nann,f,de\nbob,m,de\ncleo,f,en\n"
    )
    columns = ["gender", "language"]
    metadata = read_metadata(path, columns)
    found = split_by_conditions(trials, metadata, columns, speaker_of)
    assert {name: list(np.flatnonzero(x)) for name, x in found.items()} == {
        "gender: f": [0, 3],
        "gender: f - m": [1, 2],
        "gender: m - unknown": [4],
        "language: de": [0, 1],
        "language: de - en": [2],
        "language: de - unknown": [4],
        "language: en": [3],
    }
    for column in columns:
        parts = [x for name, x in found.items() if name.startswith(column)]
        assert np.array_equal(sum(x.astype(int) for x in parts), np.ones(5))


def test_the_test_side_alone(trials, tmp_path):
    path = write(tmp_path, "path,genre\nann/1/b,song\nbob/1/a,vlog\n")
    metadata = read_metadata(path, ["test_genre"])
    found = split_by_conditions(trials, metadata, ["test_genre"], speaker_of)
    assert {name: list(np.flatnonzero(x)) for name, x in found.items()} == {
        "test_genre: song": [0],
        "test_genre: unknown": [2, 3],
        "test_genre: vlog": [1, 4],
    }


def test_a_trial_is_as_long_as_its_shorter_side(trials, tmp_path):
    path = write(
        tmp_path,
        "path,duration\nann/1/a,1.9\nann/1/b.flac,9\nbob/1/a.wav,2\n"
        "cleo/1/a,4.5\ncleo/1/b,30\n",
    )
    metadata = read_metadata(path, ["duration"])
    found = split_by_conditions(trials, metadata, ["duration"], speaker_of)
    assert {name: list(np.flatnonzero(x)) for name, x in found.items()} == {
        "duration: below 2 s": [0, 1],
        "duration: 2 to 4 s": [2, 4],
        "duration: 4 to 8 s": [3],
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,gender\nann,f\n", "path or speaker, and gender; it has name"),
        ("speaker,age\nann,3\n", "path or speaker, and gender; it has"),
        ("speaker,gender\nann,f\nann,m\n", "line 3: ann comes with other"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_metadata(write(tmp_path, text), ["gender"])


def test_a_duration_is_a_number_and_the_file_is_there(tmp_path):
    path = write(tmp_path, "speaker,duration\nann,long\n")
    with pytest.raises(UserError, match="line 2: duration"):
        read_metadata(path, ["duration"])
    with pytest.raises(UserError, match="no such metadata"):
        read_metadata(str(tmp_path / "gone.csv"), ["gender"])


def test_metadata_of_other_speakers_or_of_names_is_refused(trials, tmp_path):
    other = {"eve": {"gender": "f"}}
    with pytest.raises(UserError, match="knows none of its utterances"):
        split_by_conditions(trials, other, ["gender"], speaker_of)
    rows = {f"{i}": {"id": str(i)} for i in range(40)}
    rows.update({n: {"id": n} for n in ("ann", "bob", "cleo", "dan")})
    many = tmp_path / "many.txt"
    many.write_text("".join(f"{i % 2} {i}/1/a ann/1/a\n" for i in range(40)))
    names = read_trials(str(many))
    with pytest.raises(UserError, match="id has 41 values"):
        split_by_conditions(names, rows, ["id"], speaker_of)
