"""One's own recordings as a corpus."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_scl.corpora.own import advice, make_own_corpus
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


def test_a_csv_and_kaldi_files_give_the_same_corpus(recordings, tmp_path):
    files = sorted(recordings.rglob("*.wav"))
    table = tmp_path / "table.csv"
    table.write_text(
        "speaker,path\n"
        + "".join(
            f'"{f.parent.name}","{f.relative_to(tmp_path)}"\n' for f in files
        )
    )
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    speaker = {f: f.parent.name for f in files}
    (kaldi / "wav.scp").write_text(
        "".join(f"utt{i} {f}\n" for i, f in enumerate(files))
    )
    (kaldi / "utt2spk").write_text(
        "".join(f"utt{i} {speaker[f]}\n" for i, f in enumerate(files))
    )
    found = []
    for source in (table, kaldi):
        corpus = tmp_path / f"own-{source.stem}"
        counts = make_own_corpus(str(source), str(corpus), test_speakers=3)
        assert counts["speakers"] == 6 and counts["test_speakers"] == 3
        found.append((corpus / "trials.txt").read_text())
    assert found[0] == found[1]


def test_what_is_of_no_use_is_named(recordings, tmp_path):
    (recordings / "ann" / "0.wav").write_bytes(b"no audio")
    soundfile.write(recordings / "dora" / "0.wav", np.zeros(9000), 16000)
    (recordings / "eve" / "0.m4a").touch()
    with pytest.raises(UserError, match="3 of 19 files .* more than"):
        make_own_corpus(str(recordings), str(tmp_path / "own"))
    assert not (tmp_path / "own").exists()
    counts = make_own_corpus(
        str(recordings), str(tmp_path / "own"), max_excluded=0.5
    )
    assert counts["left_out"] == {"format": 1, "silent": 1, "unreadable": 1}
    rows = (tmp_path / "own" / "excluded.csv").read_text()
    assert "ffmpeg -i" in rows and str(recordings / "ann" / "0.wav") in rows


def test_mistakes_are_told_with_file_and_line(recordings, tmp_path):
    def refused(source, **options):
        with pytest.raises(UserError) as error:
            make_own_corpus(str(source), str(tmp_path / "own"), **options)
        return str(error.value)

    assert "no such folder or CSV" in refused(tmp_path / "nowhere")
    assert "3 is the" not in refused(recordings, test_speakers=7)
    table = tmp_path / "table.csv"
    table.write_text("speaker,file\n")
    assert refused(table) == f"{table}: column(s) path missing"
    table.write_text("speaker,path\nann,in/ann/0.wav\nbob,gone.wav\n")
    assert f"{table}, line 3: there is no file" in refused(table)
    table.write_text("speaker,path\nann,in/ann/0.wav\nbob,in/ann/0.wav\n")
    assert f"{table}, line 3" in refused(table)
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    (kaldi / "wav.scp").write_text("u1 sox a.wav -t wav - |\n")
    (kaldi / "utt2spk").write_text("u1 ann\n")
    assert "wav.scp, line 1: a command is not run" in refused(kaldi)
    (kaldi / "wav.scp").write_text(f"u2 {recordings / 'ann' / '0.wav'}\n")
    assert "wav.scp, line 1: u2 is not in utt2spk" in refused(kaldi)
    soundfile.write(recordings / "lost.wav", np.ones(9000), 16000)
    assert "beside the speakers' folders" in refused(recordings)
    Path(recordings / "lost.wav").unlink()
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
