"""Anybody's recordings as a corpus: sources, conversion, trials."""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import files_of_at_most
from voxceleb_prepare import prepare_voxceleb

from speechbrain_scl.data.custom import import_corpus, place
from speechbrain_scl.data.names import locate
from speechbrain_scl.data.recordings import ffmpeg_program
from speechbrain_scl.data.sources import read_source
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials

ODD = "José, jr."


@pytest.fixture
def recordings(tmp_path):
    """Six speakers: one at 44.1 kHz and stereo, one with an odd name."""
    for s, speaker in enumerate(["ann", "bob", ODD, "dora", "eve", "fay"]):
        rate, channels = (44100, 2) if speaker == "bob" else (16000, 1)
        for i in range(3):
            path = tmp_path / "in" / speaker / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(rate, channels, 200 + 50 * s + i), rate)
    return tmp_path / "in"


def tone(rate, channels=1, hertz=251):
    """1.2 s [time, channels]."""
    times = np.arange(int(1.2 * rate))[:, None] / rate
    return np.tile(0.1 * np.sin(2 * np.pi * hertz * times), channels)


def test_a_folder_becomes_a_corpus_that_the_recipe_takes(recordings, tmp_path):
    corpus = tmp_path / "own"
    counts = import_corpus(str(recordings), str(corpus))
    assert counts == json.loads((corpus / "import.json").read_text())
    assert counts["speakers"] == 6 and counts["utterances"] == 18
    assert counts["converted"] == 3 and counts["left_out"] == {}
    # Three pairs of a speaker's three utterances, and as many impostors
    trials = read_trials(str(corpus / "trials.txt"))
    assert trials.labels.sum() == 2 * 3
    names = [*trials.enrol_ids, *trials.test_ids]
    locate(names, [str(corpus)], "trials.txt")
    save, listed = str(tmp_path / "save"), str(corpus / "trials.txt")
    prepared = prepare_voxceleb(str(corpus), save, listed, 2)
    assert prepared["train"]["speakers"] == 2
    assert prepared["trial_speakers_kept_out"] == 2


def test_kaldi_segments_and_the_users_own_trials(recordings, tmp_path):
    """Ids stay, and a trial list of theirs becomes the corpus's."""
    speakers = ("ann", "bob", "dora")
    source = tmp_path / "kaldi"
    source.mkdir()
    spans = [(0, 0.5), (0.4, 1.0), (1, -1)]
    names = [f"{s}.{i}\t{s}" for s in [*speakers, "eve"] for i in range(3)]
    for name, lines in {
        "wav.scp": [f"call-{s}\t{recordings / s / '0.wav'}" for s in speakers],
        "segments": [
            f"{s}.{i} call-{s}\t{start} {end}"
            for s in speakers
            for i, (start, end) in enumerate(spans)
        ],
        "utt2spk": names,
    }.items():
        (source / name).write_text("\n".join(lines))
    trials = tmp_path / "trials.txt"
    trials.write_text("ann.0 ann.1 target\nann.0\tdora.2\tnontarget\n")
    corpus = tmp_path / "own"
    counts = import_corpus(
        str(source), str(corpus), trials=str(trials), max_excluded=0.25
    )
    assert counts["converted"] == counts["utterances"] == 9
    assert counts["left_out"] == {"no recording": 3}  # eve's
    assert counts["trials"] == 2 and counts["test_speakers"] == 2
    listed = read_trials(str(corpus / "trials.txt"))
    assert listed.labels.tolist() == [True, False]
    names = [*listed.enrol_ids, *listed.test_ids]
    assert names[1] == "ann/call-ann/ann.1"
    files = locate(names, [str(corpus)], "trials.txt")
    signal, rate = soundfile.read(files["ann/call-ann/ann.1"])
    whole, _ = soundfile.read(recordings / "ann" / "0.wav")
    np.testing.assert_array_equal(signal, whole[6400:16000])
    assert soundfile.info(files["dora/call-dora/dora.2"]).frames == 3200


def test_trials_of_paths_and_of_unusable_files(recordings, tmp_path):
    soundfile.write(recordings / "bob" / "0.wav", np.zeros(9000), 16000)
    trials = tmp_path / "trials.txt"
    trials.write_text(
        f"1 ann/0.wav ann/1\n0\t{ODD}/0.wav\tann/2.wav\n0 bob/0 ann/0\n"
    )
    own = str(tmp_path / "own")
    options = {"max_excluded": 0.5, "trials": str(trials)}
    counts = import_corpus(str(recordings), own, **options)
    assert counts["trials"] == 2 and counts["trials_left_out"] == 1
    assert (tmp_path / "own" / "trials.txt").read_text() == (
        "1 ann/0/0 ann/0/1\n0 José,_jr./0/0 ann/0/2\n"
    )
    for line, said in {
        "1 ann/0.wav guy/0.wav": "line 1: .* 1, guy/0.wav is not one",
        "ann/0.wav ann/1.wav": "line 1: a label and two utterances",
    }.items():
        trials.write_text(line)
        with pytest.raises(UserError, match=said):
            import_corpus(str(recordings), f"{own}2", **options)


def test_what_is_of_no_use_is_named(recordings, tmp_path):
    (recordings / "ann" / "0.wav").write_bytes(b"no audio")
    soundfile.write(recordings / "dora" / "0.wav", np.zeros(9000), 16000)
    (recordings / "eve" / "3.wav").touch()
    own = tmp_path / "own"
    with pytest.raises(UserError, match="3 of 19 files .* more than") as error:
        import_corpus(str(recordings), str(own))
    # The list that the message names is there, the corpus is not.
    listed = Path(str(error.value).split()[-1])
    assert len(listed.read_text().splitlines()) == 4 and not own.exists()
    options = {"max_excluded": 0.5, "test_speakers": 3}
    counts = import_corpus(str(recordings), str(own), **options)
    assert counts["speakers"] == 6 and counts["test_speakers"] == 3
    assert counts["left_out"] == {"empty": 1, "silent": 1, "unreadable": 1}
    rows = (own / "excluded.csv").read_text()
    assert f"{recordings / 'ann' / '0.wav'},unreadable,neither" in rows
    assert not listed.exists()


def test_names_that_would_become_one_are_refused(make):
    source = make(**{"in__a b__0_wav": "", "in__a,b__0_wav": ""})
    os.rename(f"{source}/a,b", f"{source}/a_b")
    with pytest.raises(UserError, match="would both be a_b/0/0"):
        import_corpus(source, "own")


@pytest.mark.parametrize(
    "name, rate, channels, how",
    [
        ("a.FLAC", 16000, 1, "linked"),
        ("a.flac", 44100, 2, "converted"),
        ("-a b.m4a", 44100, 2, "converted"),
        # A name that promises another format
        ("m4a.wav", 16000, 1, "converted"),
    ],
)
def test_each_format_is_linked_or_converted(
    tmp_path, name, rate, channels, how
):
    path = tmp_path / name
    source = tmp_path / "tone.wav" if "m4a" in name else path
    soundfile.write(source, tone(rate, channels), rate)
    if source != path:
        command = [ffmpeg_program(), "-v", "error", "-i", source]
        subprocess.run([*command, "-f", "ipod", path], check=True)
    spans = {"a.b": (0.0, math.inf)}
    assert place(str(path), spans, tmp_path / "to") == {"a.b": how}
    (made,) = (tmp_path / "to").iterdir()
    assert made.is_symlink() == (how == "linked")
    assert made.stem == "a.b" and made.suffix in (".wav", ".flac")
    signal, rate = soundfile.read(made)
    assert rate == 16000 and signal.ndim == 1
    part = signal[1600:17600]
    assert np.abs(np.fft.rfft(part)).argmax() == 251
    assert np.abs(part).max() == pytest.approx(0.1, abs=1e-2)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_full_disk_is_told_as_such(tmp_path, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(8000), 8000)
    with files_of_at_most(size):
        with pytest.raises(OSError, match="File too large"):
            place(str(path), {"b": (0.0, math.inf)}, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_each_segment_is_judged(tmp_path):
    signal = tone(16000)[:, 0]
    signal[8000:12000] = 0
    soundfile.write(tmp_path / "a.wav", signal, 16000, "FLOAT")
    spans = [(0.0, 0.5), (0.5, 0.75), (1.0, 1.5), (1.0, 2.0), (2.0, 2.1)]
    targets = {str(i): span for i, span in enumerate(spans)}
    found = place(str(tmp_path / "a.wav"), targets, tmp_path)
    assert found["0"] == found["2"] == "converted"
    reasons = [found[i].reason for i in "134"]
    assert reasons == ["silent", "segment", "segment"]
    assert "from 1.0 s to 2.0 s of 1.20 s" in found["3"].value


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
        for s in read_source(source, **options)[0]
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


def test_a_csv_file(make):
    """Paths from here or from its folder; sessions are the folders that
    differ."""
    source = make(
        in__a_csv="speaker;path\nann;d/mon/1.wav\nann;d/tue/ann/1.wav\n",
        here__d__mon__1_wav="",
        in__d__tue__ann__1_wav="",
    )
    spoken, _ = read_source(f"{source}/a.csv")
    here = os.path.abspath("d/mon/1.wav")
    assert [s.path for s in spoken] == [here, f"{source}/d/tue/ann/1.wav"]
    assert [s.session.split("-")[-1] for s in spoken] == ["mon", "tue"]


def test_a_recording_of_two_speakers_is_refused(make):
    source = make(in__ann__1_wav="", in__bob__2_wav="")
    os.symlink("../ann/1.wav", f"{source}/bob/1.wav")
    with pytest.raises(UserError, match="are one recording, of ann and of bob"):
        read_source(source)
    os.rename(f"{source}/bob/1.wav", f"{source}/ann/3.wav")
    spoken, left_out = read_source(source)
    assert [s.name for s in spoken] == ["ann/1.wav", "bob/2.wav"]
    assert [e.reason for e in left_out] == ["twice"]


@pytest.mark.parametrize("encoding", ["cp1250", "cp1252", "cp1254"])
def test_the_files_tell_the_encoding_of_a_csv_file(make, encoding):
    """Its letters could be those of either."""
    name = {"cp1250": "Łukasz", "cp1252": "Ødegård", "cp1254": "Yıldız"}
    name = name[encoding]
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


def test_a_kaldi_folder_with_and_without_segments(make):
    source = make(**KALDI)
    found, left_out = read_source(source)
    spans = [(0.5, 1.5), (0, math.inf), (2, 3.25)]
    assert [s.span for s in found] == spans and not left_out
    sessions = [(s.name, s.speaker, s.session) for s in found]
    assert sessions == [
        ("u1", "ann", "r1"),
        ("u2", "bob", "r2"),
        ("u3", "ann", "r1"),
    ]
    os.remove(f"{source}/segments")
    make(in__wav_scp="u1 ../d/a b.wav\nu2 ../d/2.wav\nu4 unused.wav\n")
    found, left_out = read_source(source)
    sessions = [(s.name, s.speaker, s.session) for s in found]
    assert sessions == [("u1", "ann", "0"), ("u2", "bob", "0")]
    left_out = {e.path: e.reason for e in left_out}
    assert left_out == {"u3": "no recording", "u4": "no speaker"}


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("wav_scp", "r1 sph2pipe 'a b' |\n", r"'a b' > r1.wav$"),
        ("wav_scp", "r1\n", "wav.scp, line 1: only one field: 'r1'"),
        ("wav_scp", "r1 a\n\nr1 b\n", "wav.scp, line 3: r1 comes twice"),
        ("wav_scp", "r1 gone\nr2 gone\n", "line 1: there is no file gone"),
        ("segments", "u1 r1 0\n", "segments, line 1: `utterance recording"),
        ("segments", "u1 r1 2 1\n", "line 1: no time from 2.0 s to 1.0 s"),
        ("segments", "u1 r9 0 1\n", "line 1: r9 is not in wav.scp"),
        ("utt2spk", "\n", "utt2spk: the list is empty"),
        ("a_csv", "path,speaker\n", "it lists nothing"),
        ("a_csv", "path,speaker\n../d/2.wav,\n", "line 2: a path and a sp"),
        ("a_csv", "path,speaker\ngone.wav,bob\n", "line 2: there is no file"),
        ("a_csv", "path,speaker\n../d/2.wav,a\n../d/2.wav,b\n", "3: .* before"),
    ],
)
def test_mistakes_in_a_list(make, name, text, said):
    source = make(**{**KALDI, f"in__{name}": text})
    with pytest.raises(UserError, match=said):
        read_source(f"{source}/a.csv" if name == "a_csv" else source)


def test_what_is_no_source(make):
    with pytest.raises(UserError, match="no such folder or CSV"):
        read_source("nowhere")
    source = make(in__ann__notes_txt="")
    with pytest.raises(UserError, match="no audio below"):
        read_source(source)
    make(in__a_wav="", in__ann__1_wav="")
    spoken, left_out = read_source(source)
    assert [s.name for s in spoken] == ["ann/1.wav"]
    assert [e.reason for e in left_out] == ["place"]
    make(in__wav_scp="u1 a.wav\n")
    with pytest.raises(UserError, match="utt2spk: there is no such file"):
        read_source(source)
