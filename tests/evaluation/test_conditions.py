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


def speaker_of(name):
    return name.split("/")[0]


def written(tmp_path, text):
    (tmp_path / "file").write_text(text)
    return str(tmp_path / "file")


@pytest.mark.parametrize(
    "text, columns, wanted",
    [
        (
            "speaker,gender,language\nann,f,de\nbob,m,de\ncleo,f,en\n",
            ["gender", "language"],
            {
                "gender: f": [0, 3],
                "gender: f - m": [1, 2],
                "gender: m - unknown": [4],
                "language: de": [0, 1],
                "language: de - en": [2],
                "language: de - unknown": [4],
                "language: en": [3],
            },
        ),
        (
            "path,genre\nann/1/b,song\nbob/1/a,vlog\n",
            ["test_genre"],
            {
                "test_genre: song": [0],
                "test_genre: unknown": [2, 3],
                "test_genre: vlog": [1, 4],
            },
        ),
        (
            "path,duration\nann/1/a,1.9\nann/1/b.flac,9\nbob/1/a.wav,2\n"
            "cleo/1/a,4.5\ncleo/1/b,30\n",
            ["duration"],
            {
                "duration: below 2 s": [0, 1],
                "duration: 2 to 4 s": [2, 4],
                "duration: 4 to 8 s": [3],
            },
        ),
        (
            "path,language\nann/1/a,de\nann/1/b,en\nbob/1/a,de\n"
            "cleo/1/a,en\ncleo/1/b,en\ndan/1/a,de\n",
            ["same_language"],
            {
                "language: same": [1, 3, 4],
                "language: different": [0, 2],
                "language: targets different, impostors same": [0, 1, 4],
                "language: targets same, impostors different": [2, 3],
            },
        ),
    ],
)
def test_trials_sorted_by_hand(tmp_path, text, columns, wanted):
    trials = read_trials(written(tmp_path, LINES))
    metadata = read_metadata(written(tmp_path, text), columns)
    found = {
        name: np.flatnonzero(which == i).tolist()
        for names, which in conditions(trials, metadata, columns, speaker_of)
        for i, name in enumerate(names)
    }
    assert {name: which for name, which in found.items() if which} == wanted


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,gender\nann,f\n", "path or speaker, and gender; it has name"),
        ("speaker,age\nann,3\n", "path or speaker, and gender; it has"),
        ("speaker,gender\nann,f\nann,m\n", "line 3: ann comes with other"),
        ("speaker,gender,duration\nann,f,long\n", "line 2: .* float: 'long'"),
        ("speaker,gender,duration\nann,f,nan\n", "line 2: duration: nan"),
        ("speaker,gender\nann,f,3,4\n", "line 2: 2 fields too many"),
        (f"speaker,gender\nann,{'f' * 2**18}\n", ": field larger than"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path, text, message):
    columns = ["gender"] + ["duration"] * ("duration" in text)
    with pytest.raises(UserError, match=message):
        read_metadata(written(tmp_path, text), columns)
    with pytest.raises(UserError, match="no such file"):
        read_metadata(str(tmp_path / "gone.csv"), columns)


def test_metadata_of_other_speakers_or_of_names_is_refused(tmp_path):
    trials = read_trials(written(tmp_path, LINES))
    other = {"eve": {"gender": "f"}}
    with pytest.raises(UserError, match="knows none of its utterances"):
        conditions(trials, other, ["gender"], speaker_of)
    rows = {name: {"id": name} for name in (*map(str, range(40)), "ann")}
    many = "".join(f"{i % 2} {i}/1/a ann/1/a\n" for i in range(40))
    trials = read_trials(written(tmp_path, many))
    with pytest.raises(UserError, match="id has 41 values"):
        conditions(trials, rows, ["id"], speaker_of)
