"""Trial lists: every layout, and every mistake with its line."""

import pytest

from speechbrain_scl.errors import UserError
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
