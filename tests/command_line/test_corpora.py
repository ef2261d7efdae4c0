"""A corpus of one's own: its next commands fit it, and suspects are listed."""

import csv
import json
import os
import shlex
import shutil

import numpy as np
import pytest
import soundfile
from commands import ROOT, SMALL

from speechbrain_scl.command_line.corpora import find_suspects, next_commands
from speechbrain_scl.command_line.main import main
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
    for number, speaker in enumerate(speakers):
        for i, path in enumerate(sorted(speaker.rglob("*.wav"))[:3]):
            target = tmp_path / "in" / f"s{number}" / f"{i}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    folder = tmp_path / "in"
    # The same samples in another file format
    soundfile.write(
        folder / "s1" / "copy.flac", speech(folder / "s0/0.wav"), 16000
    )
    noise = np.random.default_rng(0).normal(0, 0.1, 32000)
    soundfile.write(folder / "s2" / "noise.wav", noise, 16000)
    sine = np.sin(np.arange(32000) / 9) / 9
    soundfile.write(folder / "s3" / "sine.wav", sine, 16000)
    (folder / "s3" / "broken.wav").write_bytes(b"no sound")
    return folder


def test_suspects_are_listed_and_left_out(
    recordings, untrained, tmp_path, capsys
):
    own = str(tmp_path / "own")
    shutil.copy(recordings / "s0" / "0.wav", recordings)
    asked = ["import", str(recordings), own, "--model", untrained]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert "--model: it serves --check" in str(ended.value)
    main([*asked, "--check"])
    assert "no speech" in capsys.readouterr().out
    given = ["--test-speakers=3", "--max-excluded=0.06"]
    main([*asked[:3], "--check", *given])
    said = capsys.readouterr().out
    assert f"left out: {recordings}/0.wav: place: it lies beside" in said
    assert "16 utterances, 5 of them suspect, 2 identical audio" in said
    assert not os.path.exists(own)
    with open(f"{own}.suspects.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["s2/noise.wav"]["reason"] == "no speech"
    assert rows["s3/sine.wav"]["reason"] == "no speech"
    assert rows["s0/0.wav"]["value"] == "of s0 and s1"
    assert rows["s1/copy.flac"]["reason"] == "identical audio"
    # The command that goes on keeps the options.
    command = shlex.split(said.splitlines()[-1])[1:]
    assert set(given) < set(command)
    main(command)
    said = capsys.readouterr().out
    assert "11 utterances of 4 speakers (0 converted, 6 left out)" in said
    with open(f"{own}/import.json") as file:
        assert json.load(file)["left_out"] == {"place": 1, "suspect": 5}
    with open(f"{own}.suspects.csv", "a") as file:
        file.write("s9/gone.wav,s9,no speech,,gone.wav\n")
    with pytest.raises(SystemExit) as ended:
        main(
            ["import", str(recordings), own + "2", "--without"]
            + [f"{own}.suspects.csv"]
        )
    assert "line 7: s9/gone.wav is no utterance" in str(ended.value)


def test_what_another_speaker_fits_better(recordings):
    """With an encoder that knows the speakers, but for one wrong label."""
    spoken, _ = read_source(str(recordings))
    spoken = [s for s in spoken if s.utterance.isdigit()]
    spoken[0] = spoken[0]._replace(speaker="s2")
    places = {}

    class Verifier:
        """The samples' speaker as a vector, with a little noise."""

        rng = np.random.default_rng(0)

        def embed(self, recording):
            key = next(
                s.name
                for s in spoken
                if np.array_equal(speech(s.path), recording[0])
            ).split("/")[0]
            place = places.setdefault(key, len(places))
            vector = np.eye(8)[place] + self.rng.normal(0, 0.05, 8)
            return vector[None] / np.linalg.norm(vector)

    (row,) = find_suspects(spoken, Verifier())
    assert row[:3] == ["s0/0.wav", "s2", "another speaker"]
    assert row[3].startswith("s0 fits better: 0.9")


def test_the_next_commands_run(corpus, untrained, run_warm, tmp_path, capsys):
    """As they are printed; with another encoder and a smaller one of its own."""
    for name in ("recipes", "hparams"):
        shutil.copytree(
            ROOT / name,
            tmp_path / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("results", "__pycache__"),
        )
    main(["import", str(corpus / "wav"), str(tmp_path / "own corpus")])
    said = capsys.readouterr().out.replace("\\\n", "")
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
        done = run_warm(
            *command, folder=tmp_path / "recipes" / "VoxCeleb" / "SpeakerRec"
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    assert len(commands) == 3
