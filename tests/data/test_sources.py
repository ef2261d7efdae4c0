"""Folders, CSV files and Kaldi folders, and what is wrong with them."""

import os

import pytest

from speechbrain_scl.data.sources import read_source
from speechbrain_scl.errors import UserError


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Files by name, from a current folder that is not theirs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def make(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path / "in")

    return make


def places(source, **options):
    return {
        s.name: (s.speaker, s.session, s.utterance)
        for s in read_source(source, **options)
    }


def test_a_folder(make):
    source = make(
        in__ann__1_wav="",
        in__ann__x__y__2_opus="",
        in__bob__notes_txt="",
        in__bob__3_m4a="",
        in__bob__4_m4a="",
        in__bob__4_wav="",  # converted before
    )
    assert places(source) == {
        "ann/1.wav": ("ann", "0", "1"),
        "ann/x/y/2.opus": ("ann", "x-y", "2"),
        "bob/3.m4a": ("bob", "0", "3"),
        "bob/4.wav": ("bob", "0", "4"),
    }


def test_paths_of_a_csv_file_from_here_or_from_its_folder(make):
    source = make(
        in__a_csv="speaker;path\nann;d/ann/m/1.wav\nbob;d/bob/1.wav\n",
        here__d__ann__m__1_wav="",
        in__d__bob__1_wav="",
    )
    found = {s.name: s.path for s in read_source(f"{source}/a.csv")}
    assert found == {
        "d/ann/m/1.wav": os.path.abspath("d/ann/m/1.wav"),
        "d/bob/1.wav": f"{source}/d/bob/1.wav",
    }


def test_sessions_of_a_list_are_the_folders_that_differ(make):
    source = make(
        in__a_csv="path,speaker\nd/mon/1/a.wav,ann\nd/mon/2/a.wav,ann\n"
        "d/tue/bob/a.wav,bob\n",
        in__d__mon__1__a_wav="",
        in__d__mon__2__a_wav="",
        in__d__tue__bob__a_wav="",
    )
    assert list(places(f"{source}/a.csv").values()) == [
        ("ann", "mon-1", "a"),
        ("ann", "mon-2", "a"),
        ("bob", "tue", "a"),
    ]


@pytest.mark.parametrize("encoding", ["cp1250", "cp1252"])
def test_the_files_tell_the_encoding_of_a_csv_file(make, encoding):
    """Its letters could be those of either."""
    name = {"cp1250": "Łukasz", "cp1252": "Ødegård"}[encoding]
    source = make(**{f"in__{name}__1_wav": ""})
    with open(f"{source}/a.csv", "w", encoding=encoding) as file:
        file.write(f"path;speaker\n{name}/1.wav;{name}\n")
    assert places(f"{source}/a.csv") == {f"{name}/1.wav": (name, "0", "1")}


KALDI = {
    "in__wav_scp": "r1\t../d/a b.wav\nr2  ../d/2.wav\nr3 unused.wav\n",
    "in__segments": "u1\tr1 0.5 1.5\nu2 r2\t0 -1\nu3 r1 2 3.25\n",
    "in__utt2spk": "u1\tann\nu2 bob\nu3   ann\n",
    "d__a b_wav": "",
    "d__2_wav": "",
}


def test_a_kaldi_folder_with_segments_and_tabs(make):
    found = read_source(make(**KALDI))
    assert [(s.start, s.end) for s in found] == [
        (0.5, 1.5),
        (0, float("inf")),
        (2, 3.25),
    ]
    assert places(make(**KALDI)) == {
        "u1": ("ann", "r1", "u1"),
        "u2": ("bob", "r2", "u2"),
        "u3": ("ann", "r1", "u3"),
    }


def test_a_kaldi_folder_without_segments(make):
    files = {n: t for n, t in KALDI.items() if not n.endswith("segments")}
    files["in__wav_scp"] = "u1 ../d/a b.wav\nu2 ../d/2.wav\n"
    assert places(make(**files)) == {
        "u1": ("ann", "0", "u1"),
        "u2": ("bob", "0", "u2"),
    }


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("wav_scp", "r1 sph2pipe 'a b' |\n", r"'a b' > r1.wav$"),
        ("wav_scp", "r1\n", "wav.scp, line 1: only one field: 'r1'"),
        ("wav_scp", "r1 a\n\nr1 b\n", "wav.scp, line 3: r1 comes twice"),
        ("wav_scp", "r1 gone\nr2 gone\n", "line 1: there is no file gone"),
        (
            "wav_scp",
            "r1 ../d/2.wav\nr2 ../d/2.wav\n",
            "line 2: ../d/2.wav is listed before",
        ),
        ("segments", "u1 r1 0\n", "segments, line 1: `utterance recording"),
        ("segments", "u1 r1 a b\n", "segments, line 1: `utterance recording"),
        ("segments", "u1 r1 2 1\n", "line 1: no time from 2.0 s to 1.0 s"),
        ("segments", "u1 r9 0 1\n", "line 1: r9 is not in wav.scp"),
        ("segments", "u1 r1 0 1\nu1 r1 1 2\n", "line 2: u1 comes twice"),
        ("segments", "\n", "segments: the list is empty"),
        ("utt2spk", "u1 ann\n", "segments, line 2: u2 is not in utt2spk"),
    ],
)
def test_mistakes_in_a_kaldi_folder(make, name, text, said):
    with pytest.raises(UserError, match=said):
        read_source(make(**{**KALDI, f"in__{name}": text}))


def test_other_mistakes(make):
    with pytest.raises(UserError, match="no such folder or CSV"):
        read_source("nowhere")
    source = make(in__ann__notes_txt="")
    with pytest.raises(UserError, match="no audio below"):
        read_source(source)
    make(in__a_wav="")
    with pytest.raises(UserError, match="beside the speakers' folders"):
        read_source(source)
    for text, said in {
        "path,speaker\n": "it lists nothing",
        "path,speaker\na.wav,\n": "line 2: a path and a speaker are needed",
        "path,speaker\na.wav,ann\ngone.wav,bob\n": "line 3: there is no file",
        "path,speaker\na.wav,ann\na.wav,bob\n": "line 3: a.wav is listed",
    }.items():
        make(in__a_csv=text)
        with pytest.raises(UserError, match=said):
            read_source(f"{source}/a.csv")
    make(in__wav_scp="u1 a.wav\n")
    with pytest.raises(UserError, match="utt2spk: there is no such file"):
        read_source(source)
