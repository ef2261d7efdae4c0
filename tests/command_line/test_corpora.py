"""A corpus of one's own: its next commands fit it, and suspects are listed."""

import json
import os
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from commands import SMALL, read_rows, write_noise

from speechbrain_scl.command_line.corpora import find_suspects, next_commands
from speechbrain_scl.data.sources import read_source


def test_expectations_grow_with_the_speakers():
    for n, said in {
        5: "cannot be trained on",
        9: "too few",
        100: "not for a useful system",
        5000: "compare with a trained encoder",
    }.items():
        counts = {"speakers": n, "test_speakers": 2}
        assert said in next_commands(counts, "own")


def speech(path):
    return soundfile.read(path, dtype="float32")[0]


@pytest.fixture
def recordings(corpus, tmp_path):
    """Four speakers of three utterances, and what is wrong with some."""
    speakers = sorted((corpus / "wav").iterdir())[:4]
    folder = tmp_path / "in"
    for number, speaker in enumerate(speakers):
        (folder / f"s{number}").mkdir(parents=True)
        for i, path in enumerate(sorted(speaker.rglob("*.wav"))[:3]):
            shutil.copy(path, folder / f"s{number}" / f"{i}.wav")
    # The same samples in another file format
    copy = speech(folder / "s0/0.wav")
    soundfile.write(folder / "s1" / "copy.flac", copy, 16000)
    write_noise(folder / "s2" / "noise.wav", 2)
    sine = np.sin(np.arange(32000) / 9) / 9
    soundfile.write(folder / "s3" / "sine.wav", sine, 16000)
    (folder / "s3" / "broken.wav").write_bytes(b"no sound")
    return folder


def test_suspects_are_left_out(recordings, untrained, tmp_path, say, refused):
    own = str(tmp_path / "own")
    shutil.copy(recordings / "s0" / "0.wav", recordings)
    asked = ["import", recordings, own]
    said = refused(*asked, "--model", untrained)
    assert "--model: it serves --check" in said
    assert "no speech" in say(*asked, "--model", untrained, "--check")
    given = ["--test-speakers=3", "--max-excluded=0.06"]
    said = say(*asked, "--check", *given)
    assert f"left out: {recordings}/0.wav: place: it lies beside" in said
    assert "16 utterances, 5 of them suspect, 2 identical audio" in said
    assert not os.path.exists(own)
    suspects = f"{own}.suspects.csv"
    rows = {row["name"]: row for row in read_rows(suspects)}
    assert rows["s2/noise.wav"]["reason"] == "no speech"
    assert rows["s3/sine.wav"]["reason"] == "no speech"
    assert rows["s0/0.wav"]["value"] == "of s0 and s1"
    assert rows["s1/copy.flac"]["reason"] == "identical audio"
    # The command that goes on keeps the options.
    command = shlex.split(said.splitlines()[-1])[1:]
    assert set(given) < set(command)
    said = "11 utterances of 4 speakers (0 converted, 6 left out)"
    assert said in say(*command)
    with open(f"{own}/import.json") as file:
        assert json.load(file)["left_out"] == {"place": 1, "suspect": 5}
    with open(suspects, "a") as file:
        file.write("s9/gone.wav,s9,no speech,,gone.wav\n")
    said = refused("import", recordings, f"{own}2", "--without", suspects)
    assert "line 7: s9/gone.wav is no utterance" in said


def test_what_another_speaker_fits_better(recordings):
    """With an encoder that knows the speakers, but for one wrong label."""
    spoken, _ = read_source(str(recordings))
    spoken = [s for s in spoken if s.utterance.isdigit()]
    spoken[0] = spoken[0]._replace(speaker="s2")
    speakers = {speech(s.path).tobytes(): int(s.name[1]) for s in spoken}
    rng = np.random.default_rng(0)

    def embed(recording):
        """The samples' speaker as a vector, with a little noise."""
        vector = np.eye(8)[speakers[recording[0].tobytes()]]
        vector = vector + rng.normal(0, 0.05, 8)
        return vector[None] / np.linalg.norm(vector)

    (row,) = find_suspects(spoken, SimpleNamespace(embed=embed))
    assert row[:3] == ["s0/0.wav", "s2", "another speaker"]
    assert row[3].startswith("s0 fits better: 0.9")


def test_the_next_commands_run(corpus, untrained, run_warm, tmp_path, say):
    """As they are printed; with another encoder and a smaller one of its own."""
    say("init", tmp_path / "here")
    said = say("import", corpus / "wav", tmp_path / "own corpus")
    said = said.replace("\\\n", "")
    commands = [
        shlex.split(line)[1:]
        for line in said.splitlines()
        if line.startswith("python ")
    ]
    small = [option for option in SMALL[1:] if "speakers" not in option]
    for command in commands:
        command += [*small, "--number_of_epochs=1"] * ("train" in command[0])
        hub = "--pretrain_path=speechbrain/spkrec-ecapa-voxceleb"
        if hub in command:
            command[command.index(hub)] = f"--pretrain_path={untrained}"
        run_warm(*command, folder=tmp_path / "here/recipes/VoxCeleb/SpeakerRec")
    assert len(commands) == 3
