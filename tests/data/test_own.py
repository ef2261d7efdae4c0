"""One's own recordings as a corpus."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_scl.data.own import advice, make_own_corpus
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.embeddings import locate
from speechbrain_scl.evaluation.trials import read_trials

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
sys.path.insert(0, str(RECIPES / "VoxCeleb"))
from voxceleb_prepare import prepare_voxceleb  # noqa: E402

ODD = "José, jr."


@pytest.fixture
def recordings(tmp_path):
    """Six speakers: one at 44.1 kHz and stereo, one with an odd name."""
    for s, speaker in enumerate(["ann", "bob", ODD, "dora", "eve", "fay"]):
        rate, channels = (44100, 2) if speaker == "bob" else (16000, 1)
        for i in range(3):
            path = tmp_path / "in" / speaker / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(int(1.2 * rate))[:, None] / rate
            tone = 0.1 * np.sin(2 * np.pi * (200 + 50 * s + i) * time)
            soundfile.write(path, tone.repeat(channels, 1), rate)
    return tmp_path / "in"


def test_a_folder_becomes_a_corpus_that_the_recipe_takes(recordings, tmp_path):
    corpus = tmp_path / "own"
    counts = make_own_corpus(str(recordings), str(corpus))
    assert counts == json.loads((corpus / "own.json").read_text())
    assert counts["speakers"] == 6 and counts["utterances"] == 18
    assert counts["converted"] == 3 and counts["left_out"] == {}
    # Three pairs of a speaker's three utterances, and as many impostors
    trials = read_trials(str(corpus / "trials.txt"))
    assert trials.labels.sum() == 2 * 3
    names = [*trials.enrol_ids, *trials.test_ids]
    locate(names, [str(corpus)], "trials.txt")
    prepared = prepare_voxceleb(
        str(corpus),
        str(tmp_path / "save"),
        str(corpus / "trials.txt"),
        valid_speakers=2,
    )
    assert prepared["train"]["speakers"] == 2
    assert prepared["trial_speakers_kept_out"] == 2


def test_only_what_does_not_fit_is_copied(recordings, tmp_path):
    make_own_corpus(str(recordings), str(tmp_path / "own"))
    wav = tmp_path / "own" / "wav"
    assert (wav / "ann" / "0" / "1.wav").is_symlink()
    assert (wav / "José,_jr." / "0" / "1.wav").is_symlink()
    converted = wav / "bob" / "0" / "1.flac"
    signal, rate = soundfile.read(converted)
    assert rate == 16000 and signal.shape == (19200,)
    # Still the tone of 251 Hz
    peak = np.abs(np.fft.rfft(signal)).argmax() * rate / len(signal)
    assert peak == pytest.approx(251, abs=1)
    assert np.abs(signal[1000:-1000]).max() == pytest.approx(0.1, abs=1e-3)


def kaldi_folder(place, **files):
    """wav.scp, utt2spk, ... from their lines."""
    place.mkdir()
    for name, lines in files.items():
        name = name.replace("wav_scp", "wav.scp")
        (place / name).write_text("".join(f"{line}\n" for line in lines))
    return str(place)


def test_a_csv_file_gives_the_same_corpus(recordings, tmp_path):
    files = sorted(recordings.rglob("*.wav"))
    table = tmp_path / "table.csv"
    table.write_text(
        "speaker,path\n"
        + "".join(
            f'"{f.parent.name}","{f.relative_to(tmp_path)}"\n' for f in files
        )
    )
    found = []
    for source in (table, recordings):
        corpus = tmp_path / f"own-{source.stem}"
        counts = make_own_corpus(str(source), str(corpus), test_speakers=3)
        assert counts["speakers"] == 6 and counts["test_speakers"] == 3
        found.append((corpus / "trials.txt").read_text())
    assert found[0] == found[1]


def test_kaldi_segments_and_the_users_own_trials(recordings, tmp_path):
    """Ids stay, and a trial list of theirs becomes the corpus's."""
    speakers = ("ann", "bob", "dora")
    source = kaldi_folder(
        tmp_path / "kaldi",
        wav_scp=[f"call-{s}\t{recordings / s / '0.wav'}" for s in speakers],
        segments=[
            f"{s}.{i} call-{s}\t{start} {end}"
            for s in speakers
            for i, (start, end) in enumerate([(0, 0.5), (0.4, 1.0), (1, -1)])
        ],
        utt2spk=[f"{s}.{i}\t{s}" for s in speakers for i in range(3)],
    )
    trials = tmp_path / "trials.txt"
    trials.write_text("ann.0 ann.1 target\nann.0\tdora.2\tnontarget\n")
    corpus = tmp_path / "own"
    counts = make_own_corpus(source, str(corpus), trials=str(trials))
    assert counts["converted"] == counts["utterances"] == 9
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
    counts = make_own_corpus(str(recordings), own, **options)
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
            make_own_corpus(str(recordings), f"{own}2", **options)


def test_what_is_of_no_use_is_named(recordings, tmp_path):
    (recordings / "ann" / "0.wav").write_bytes(b"no audio")
    soundfile.write(recordings / "dora" / "0.wav", np.zeros(9000), 16000)
    (recordings / "eve" / "3.m4a").touch()
    with pytest.raises(UserError, match="3 of 19 files .* more than") as error:
        make_own_corpus(str(recordings), str(tmp_path / "own"))
    assert not (tmp_path / "own").exists()
    # The list that the message names is there.
    listed = str(error.value).split()[-1]
    assert len(Path(listed).read_text().splitlines()) == 4
    counts = make_own_corpus(
        str(recordings), str(tmp_path / "own"), max_excluded=0.5
    )
    assert counts["left_out"] == {"silent": 1, "unreadable": 2}
    rows = (tmp_path / "own" / "excluded.csv").read_text()
    assert str(recordings / "ann" / "0.wav") in rows
    assert not Path(listed).exists()


def test_mistakes_are_told_with_file_and_line(recordings, tmp_path):
    def refused(source, **options):
        with pytest.raises(UserError) as error:
            make_own_corpus(str(source), str(tmp_path / "own"), **options)
        return str(error.value)

    assert "3 is the" not in refused(recordings, test_speakers=7)
    assert "no such folder or CSV" in refused(tmp_path / "nowhere")
    (tmp_path / "own").mkdir()
    assert "it exists" in refused(recordings)


def test_names_that_would_become_one_are_refused(recordings, tmp_path):
    for name in ("a b", "a_b"):
        path = recordings / name / "0.wav"
        path.parent.mkdir()
        path.write_bytes((recordings / "ann" / "0.wav").read_bytes())
    with pytest.raises(UserError, match="would both be a_b/0/0"):
        make_own_corpus(str(recordings), str(tmp_path / "own"))


def test_expectations_grow_with_the_speakers():
    said = [advice({"speakers": n, "test_speakers": 2}) for n in (5, 100, 5000)]
    assert "too few" in said[0]
    assert "not for a useful system" in said[1]
    assert len(set(said)) == 3
    assert "cannot be trained on" in said[0]
    few = advice({"speakers": 20, "test_speakers": 4})
    assert few.endswith("--valid_speakers=4 --speakers_per_batch=12")
