"""Who speaks where: folders, CSV files, Kaldi folders, and their mistakes."""

import math
import os

import pytest

from speechbrain_scl.data.sources import read_source
from speechbrain_scl.errors import UserError


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Files by name below in/, from a current folder that is not theirs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def make(files):
        for name, text in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path / "in")

    return make


def places(source):
    """(speaker, session, utterance) by name; reasons by what is left out."""
    spoken, left_out = read_source(source)
    found = {s.name: (s.speaker, s.session, s.utterance) for s in spoken}
    return found, {os.path.basename(e.path): e.reason for e in left_out}


def test_a_folder(make):
    names = ["a.wav", "ann/1.wav", "ann/x/y/2.opus", "bob/notes.txt"]
    # One was converted before.
    names += ["bob/3.m4a", "bob/4.m4a", "bob/4.wav"]
    source = make(dict.fromkeys(names, ""))
    os.symlink("1.wav", f"{source}/ann/5.wav")
    found = {
        "ann/1.wav": ("ann", "0", "1"),
        "ann/x/y/2.opus": ("ann", "x-y", "2"),
        "bob/3.m4a": ("bob", "0", "3"),
        "bob/4.wav": ("bob", "0", "4"),
    }
    assert places(source) == (found, {"a.wav": "place", "5.wav": "twice"})
    os.symlink("../ann/1.wav", f"{source}/bob/6.wav")
    with pytest.raises(UserError, match="are one recording, of ann and of bob"):
        read_source(source)


def test_a_csv_file(make):
    """Paths from here or from its folder; sessions are the folders that
    differ."""
    text = "speaker;path\nann;d/mon/1.wav\nann;d/tue/ann/1.wav\n"
    names = ("../here/d/mon/1.wav", "d/tue/ann/1.wav")
    source = make({"a.csv": text} | dict.fromkeys(names, ""))
    spoken, _ = read_source(f"{source}/a.csv")
    here = os.path.abspath("d/mon/1.wav")
    assert [s.path for s in spoken] == [here, f"{source}/d/tue/ann/1.wav"]
    assert [s.session.split("-")[-1] for s in spoken] == ["mon", "tue"]


@pytest.mark.parametrize(
    "encoding, name",
    [("cp1250", "Łukasz"), ("cp1252", "Ødegård"), ("cp1254", "Yıldız")],
)
def test_the_files_tell_the_encoding_of_a_csv_file(make, encoding, name):
    """Its letters could be those of either."""
    source = make({f"{name}/1.wav": ""})
    with open(f"{source}/a.csv", "w", encoding=encoding) as file:
        file.write(f"path;speaker\n{name}/1.wav;{name}\n")
    found = {f"{name}/1.wav": (name, "0", "1")}
    assert places(f"{source}/a.csv") == (found, {})


KALDI = {
    "wav.scp": "r1\t../d/a b.wav\nr2  ../d/2.wav\nr3 unused.wav\n",
    "segments": "u1\tr1 0.5 1.5\nu2 r2\t0 -1\nu3 r1 2 3.25\n",
    "utt2spk": "u1\tann\nu2 bob\nu3   ann\n",
    "../d/a b.wav": "",
    "../d/2.wav": "",
}


def test_a_kaldi_folder_with_and_without_segments(make):
    source = make(KALDI)
    spans = [(0.5, 1.5), (0, math.inf), (2, 3.25)]
    assert [s.span for s in read_source(source)[0]] == spans
    found = {"u1": ("ann", "r1", "u1"), "u2": ("bob", "r2", "u2")}
    assert places(source) == (found | {"u3": ("ann", "r1", "u3")}, {})
    os.remove(f"{source}/segments")
    make({"wav.scp": "u1 ../d/a b.wav\nu2 ../d/2.wav\nu4 unused.wav\n"})
    found = {"u1": ("ann", "0", "u1"), "u2": ("bob", "0", "u2")}
    left_out = {"u3": "no recording", "u4": "no speaker"}
    assert places(source) == (found, left_out)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("wav.scp", "r1 sph2pipe 'a b' |\n", r"'a b' > r1.wav$"),
        ("wav.scp", "r1\n", "wav.scp, line 1: only one field: 'r1'"),
        ("wav.scp", "r1 a\n\nr1 b\n", "wav.scp, line 3: r1 comes twice"),
        ("wav.scp", "r1 gone\nr2 gone\n", "line 1: there is no file gone"),
        ("segments", "u1 r1 0\n", "segments, line 1: `utterance recording"),
        ("segments", "u1 r1 2 1\n", "line 1: no time from 2.0 s to 1.0 s"),
        ("segments", "u1 r9 0 1\n", "line 1: r9 is not in wav.scp"),
        ("utt2spk", "\n", "utt2spk: the list is empty"),
        ("a.csv", "path,speaker\n", "it lists nothing"),
        ("a.csv", "path,speaker\n../d/2.wav,\n", "line 2: a path and a sp"),
        ("a.csv", "path,speaker\ngone.wav,bob\n", "line 2: there is no file"),
        ("a.csv", "path,speaker\n../d/2.wav,a\n../d/2.wav,b\n", "3: .* before"),
    ],
)
def test_mistakes_in_a_list(make, name, text, said):
    source = make({**KALDI, name: text})
    with pytest.raises(UserError, match=said):
        read_source(f"{source}/a.csv" if name == "a.csv" else source)


def test_what_is_no_source(make):
    for files, said in (
        ({}, "no such folder or CSV"),
        ({"ann/notes.txt": ""}, "no audio below"),
        ({"wav.scp": "u1 a.wav\n"}, "utt2spk: there is no such file"),
    ):
        with pytest.raises(UserError, match=said):
            read_source(make(files))
