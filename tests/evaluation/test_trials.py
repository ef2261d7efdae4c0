"""Trial lists: every layout, and every mistake with its line."""

import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from speechbrain_scl.data.names import locate
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import trials as lists
from speechbrain_scl.evaluation.trials import (
    read_enrolment_map,
    read_trials,
    write_scores,
)


@pytest.fixture(params=[2**23, 30], autouse=True)
def way(request, monkeypatch):
    """Long lists are read in blocks, and written by another library, which must
    not be seen."""
    if request.param == 30:
        monkeypatch.setattr(lists, "_BLOCK", 30)
        monkeypatch.setattr(lists, "_LONG", 0)
        monkeypatch.setattr(lists, "_ROWS", 3)


@pytest.mark.parametrize(
    "text",
    [
        "1 a/x.wav b/y.wav\n0 a/x.wav c/z.wav\n",
        "a/x.wav b/y.wav target\na/x.wav c/z.wav nontarget\n",
        "\ufefftarget a/x.wav b/y.wav\nimpostor a/x.wav c/z.wav\n",
    ],
)
def test_layouts(tmp_path, text):
    path = tmp_path / "trials.txt"
    path.write_text(text, encoding="utf-8", newline="")
    trials = read_trials(str(path))
    assert trials.enrol_ids == ["a/x.wav"]
    assert trials.test_ids == ["b/y.wav", "c/z.wav"]
    assert trials.labels.tolist() == [True, False]
    assert trials.test_index.tolist() == [0, 1]
    assert trials.name == "trials"


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 a b\n0 a\n", "line 2: 2 fields"),
        ("1 a b\n0.9 a c\n", "line 2: the label is '0.9'"),
        ("1 a b\n1 a c\n", "none of its 2 trials is an impostor"),
        ("0 a b\n", "none of its 1 trials is a target"),
        ("1 a b\n0 a c\n\n0 a c\n1 a b\n", "line 4: the trial a c is listed"),
        ("\n\n", "no trial"),
        ("1 a b\n\udcff", "not a text file"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "trials.txt"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        read_trials(str(path))
    with pytest.raises(UserError, match="absent.txt"):
        read_trials("absent.txt")


def test_what_needs_a_look_at_the_line(tmp_path):
    """Missing utterances are counted with it, an ambiguous layout asked for, and
    a score that is not finite has its trial."""
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n0 a c\n")
    for name in "ab":
        (tmp_path / f"{name}.wav").touch()
    trials = read_trials(str(path))
    with pytest.raises(UserError, match="1 of 2 .* first is c in line 2"):
        locate(trials.test_ids, [str(tmp_path)], trials.path, trials.line_of)
    with pytest.raises(UserError, match="score of a c is nan"):
        trials.with_scores([0.0, np.nan])
    path.write_text("1 a 0\n0 b 1\n")
    with pytest.raises(UserError, match="line 1: the label could be 1 or 0"):
        read_trials(str(path))
    assert read_trials(str(path), "label_first").test_ids == ["0", "1"]
    assert read_trials(str(path), "label_last").enrol_ids == ["1", "0"]
    with pytest.raises(UserError, match="trial_layout='kaldi': choose one"):
        read_trials(str(path), "kaldi")


NAMES = st.text(
    st.characters(exclude_categories=["Z", "C"], exclude_characters="\x85\xa0"),
    min_size=1,
    max_size=6,
).filter(lambda name: len(name.split()) == 1)
ROWS = st.lists(
    st.tuples(NAMES, NAMES, st.booleans(), st.floats(-1e6, 1e6)),
    unique_by=lambda row: row[:2],
)
COMMON = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}


@given(
    rows=ROWS,
    first=st.booleans(),
    ends=st.sampled_from([(" ", "\n"), ("\t", "\r\n"), ("  ", "\n\n")]),
)
@settings(max_examples=30, **COMMON)
def test_what_is_written_is_read(tmp_path, rows, first, ends):
    rows = [("a-target", "b", True, 0.5), ("impostor", "b", False, 0.1), *rows]
    path = tmp_path / "trials.txt"
    with open(path, "w", encoding="utf-8", newline="") as file:
        for enrol, test, label, _ in rows:
            fields = [enrol, test]
            fields.insert(0 if first else 2, str(int(label)))
            file.write(ends[0].join(fields) + ends[1])
    layout = "label_first" if first else "label_last"
    trials = read_trials(str(path), layout)
    trials = trials.with_scores([score for *_, score in rows])
    assert rows == [
        (trials.enrol_ids[e], trials.test_ids[t], label, score)
        for e, t, label, (*_, score) in zip(
            trials.enrol_index, trials.test_index, trials.labels, rows
        )
    ]
    write_scores(str(path), trials)
    assert path.read_bytes().decode() == "".join(
        f"{label:d} {enrol} {test} {score:.6f}\n"
        for (enrol, test, label, _), score in zip(rows, trials.scores)
    )


@given(st.binary(max_size=60))
@settings(max_examples=40, **COMMON)
def test_garbage_is_an_error_or_a_list(tmp_path, content):
    path = tmp_path / "trials.txt"
    path.write_bytes(content)
    try:
        assert len(read_trials(str(path))) >= 2
    except UserError as error:
        assert str(path) in str(error)


def test_a_list_takes_the_memory_of_its_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "_BLOCK", 2**18)
    path = tmp_path / "trials.txt"
    n = 160_000
    lines = [
        f"id{e}-enroll id{t % 20}-sing-{t}.wav {int(t % 20 == e)}\n"
        for t in range(n // 20)
        for e in range(20)
    ]
    path.write_text("".join(lines))
    tracemalloc.start()
    trials = read_trials(str(path))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(trials) == n and trials.labels.sum() == n // 20
    assert held < 9 * n + 2 * 2**20
    assert peak < 60 * n + 4 * 2**20


def test_enrolment_maps_of_kaldi_and_cn_celeb(tmp_path):
    path = tmp_path / "enroll.map"
    text = "José-enroll a/1.wav\ta/2.wav\r\n\r\nbob-enroll b/1.wav\r\n"
    for encoding in ("utf-8-sig", "cp1252"):
        path.write_bytes(text.encode(encoding))
        assert read_enrolment_map(str(path)) == {
            "José-enroll": ["a/1.wav", "a/2.wav"],
            "bob-enroll": ["b/1.wav"],
        }
    for text, message in (
        ("ann a.wav\nbob\n", "line 2: bob has no utterance"),
        ("ann a.wav\n\nann b.wav\n", "line 3: ann comes twice"),
        ("ann a.wav b.wav a.wav\n", "line 1: an utterance comes twice"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_enrolment_map(str(path))
    with pytest.raises(UserError, match="there is no such file"):
        read_enrolment_map(str(tmp_path / "gone.map"))
