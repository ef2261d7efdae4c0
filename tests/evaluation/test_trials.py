"""Trial lists: every layout, and every mistake with its line."""

import tracemalloc

import pytest
from hypothesis import (
    HealthCheck,
    given,
    settings,
    strategies as st,
)

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import trials as lists
from speechbrain_scl.evaluation.spool import Spool
from speechbrain_scl.evaluation.trials import read_trials


@pytest.mark.parametrize(
    "text",
    [
        "1 a/x.wav b/y.wav\n0 a/x.wav c/z.wav\n",
        "\n1\ta/x.wav\tb/y.wav\r\n\r\n0 a/x.wav  c/z.wav",
        "a/x.wav b/y.wav target\na/x.wav c/z.wav nontarget\n",
        "a/x.wav b/y.wav 1\na/x.wav c/z.wav 0\n",
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
        ("1 a b\n0 a c\n\n1 a b\n", "line 4: the trial a b is listed before"),
        ("\n\n", "no trial"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_trials(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_list():
    with pytest.raises(UserError, match="absent.txt"):
        read_trials("absent.txt")


def test_an_ambiguous_layout_is_asked_for(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text("1 a 0\n0 b 1\n")
    with pytest.raises(UserError, match="line 1: the label could be 1 or 0"):
        read_trials(str(path))
    assert read_trials(str(path), "label_first").test_ids == ["0", "1"]
    assert read_trials(str(path), "label_last").enrol_ids == ["1", "0"]
    with pytest.raises(UserError, match="trial_layout='kaldi': choose one"):
        read_trials(str(path), "kaldi")


def test_what_is_no_text_is_told(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_bytes(b"1 a b\n\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        read_trials(str(path))


NAMES = st.text(
    st.characters(exclude_categories=["Z", "C"], exclude_characters="\x85\xa0"),
    min_size=1,
    max_size=6,
).filter(lambda name: len(name.split()) == 1)


@given(
    pairs=st.lists(st.tuples(NAMES, NAMES), min_size=2, unique=True),
    data=st.data(),
)
@settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_written_is_read(tmp_path, pairs, data):
    layout = data.draw(st.sampled_from(["label_first", "label_last"]))
    gap, end = data.draw(
        st.sampled_from([(" ", "\n"), ("\t", "\r\n"), ("  ", "\n\n")])
    )
    labels = [
        True,
        False,
        *data.draw(
            st.lists(
                st.booleans(), min_size=len(pairs) - 2, max_size=len(pairs) - 2
            )
        ),
    ]
    path = tmp_path / "trials.txt"
    with open(path, "w", encoding="utf-8", newline="") as file:
        for (enrol, test), label in zip(pairs, labels):
            fields = [enrol, test]
            fields.insert(0 if layout == "label_first" else 2, str(int(label)))
            file.write(gap.join(fields) + end)
    trials = read_trials(str(path), layout)
    assert trials.labels.tolist() == labels
    assert pairs == [
        (trials.enrol_ids[e], trials.test_ids[t])
        for e, t in zip(trials.enrol_index, trials.test_index)
    ]


@given(st.binary(max_size=60))
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_garbage_is_an_error_or_a_list(tmp_path, content):
    path = tmp_path / "trials.txt"
    path.write_bytes(content)
    try:
        assert len(read_trials(str(path))) >= 2
    except UserError as error:
        assert str(path) in str(error)


def test_more_trials_take_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Spool, "BLOCK", 2**12)
    monkeypatch.setattr(Spool, "IN_MEMORY", 2**16)
    monkeypatch.setattr(lists, "_PAIRS", 2**13)
    peaks = []
    for n in (2_000, 8_000):
        path = tmp_path / "trials.txt"
        path.write_text(
            "".join(
                f"id{e}-enroll id{t % 20}-sing-{t}.wav {int(t % 20 == e)}\n"
                for t in range(n)
                for e in range(20)
            )
        )
        tracemalloc.start()
        trials = read_trials(str(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(trials) == 20 * n and trials.labels.sum() == n
    # The names alone become more.
    assert peaks[1] - peaks[0] < 200 * 6_000
