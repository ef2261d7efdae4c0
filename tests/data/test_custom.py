"""Anybody's recordings as a corpus: conversion, segments, trials."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import by_ffmpeg, files_of_at_most
from voxceleb_prepare import prepare_voxceleb

from speechbrain_scl.data.custom import import_corpus, place
from speechbrain_scl.data.names import locate
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials

ODD = "José, jr."


@pytest.fixture
def recordings(tmp_path):
    """Six speakers: one at 44.1 kHz and stereo, one with an odd name."""
    for s, speaker in enumerate(["ann", "bob", ODD, "dora", "eve", "fay"]):
        rate, channels = (44100, 2) if speaker == "bob" else (16000, 1)
        (tmp_path / "in" / speaker).mkdir(parents=True)
        for i in range(3):
            path = tmp_path / "in" / speaker / f"{i}.wav"
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
    source = tmp_path / "kaldi"
    source.mkdir()
    lists = {"utt2spk": [f"eve.{i}\teve" for i in range(3)]}
    lists |= {"wav.scp": [], "segments": []}
    for s in ("ann", "bob", "dora"):
        lists["wav.scp"].append(f"call-{s}\t{recordings / s / '0.wav'}")
        for i, span in enumerate(("0 0.5", "0.4 1.0", "1 -1")):
            lists["segments"].append(f"{s}.{i} call-{s}\t{span}")
            lists["utt2spk"].append(f"{s}.{i}\t{s}")
    for name, lines in lists.items():
        (source / name).write_text("\n".join(lines))
    trials = tmp_path / "trials.txt"
    trials.write_text("ann.0 ann.1 target\nann.0\tdora.2\tnontarget\n")
    corpus = tmp_path / "own"
    options = {"trials": str(trials), "max_excluded": 0.25}
    counts = import_corpus(str(source), str(corpus), **options)
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
    lines = "1 ann/0.wav ann/1\n0\t{}/0.wav\tann/2.wav\n0 bob/0 ann/0\n"
    trials.write_text(lines.format(ODD))
    own = str(tmp_path / "own")
    options = {"max_excluded": 0.5, "trials": str(trials)}
    counts = import_corpus(str(recordings), own, **options)
    assert counts["trials"] == 2 and counts["trials_left_out"] == 1
    wanted = "1 ann/0/0 ann/0/1\n0 José,_jr./0/0 ann/0/2\n"
    assert (tmp_path / "own" / "trials.txt").read_text() == wanted
    for line, said in {
        "1 ann/0.wav guy/0.wav": "guy/0.wav is not among",
        "ann/0.wav ann/1.wav": "no label",
    }.items():
        trials.write_text(line)
        with pytest.raises(UserError, match=f"line 1: .*{said}"):
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


def test_names_that_would_become_one_are_refused(recordings, tmp_path):
    (recordings / "a b").mkdir()
    for name in ("a b/0.wav", "a b/0.flac"):
        (recordings / name).touch()
    with pytest.raises(UserError, match="would both be a_b/0/0"):
        import_corpus(str(recordings), str(tmp_path / "own"))


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
def test_each_format(tmp_path, name, rate, channels, how):
    path = tmp_path / name
    if "m4a" in name:
        by_ffmpeg(path, tone(rate, channels), rate, "-f", "ipod")
    else:
        soundfile.write(path, tone(rate, channels), rate)
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
