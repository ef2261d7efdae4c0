"""The command line: a thin layer on the class, in words and statuses."""

import io
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile
from commands import ROOT
from huggingface_hub import constants

from speechbrain_scl import __version__
from speechbrain_scl.command_line.main import main
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest, load_embeddings
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def refused():
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        assert ended.value.code == 2
        return str(ended.value)

    return run


def test_verify(untrained, spoken, capsys, tmp_path):
    wanted = SpeakerVerifier.load(untrained).verify(*spoken[:2])
    assert main(["verify", untrained, *spoken[:2]]) == 0
    said = capsys.readouterr().out
    assert said == f"{wanted}\n" and "no decision" in said
    low = ["verify", untrained, *spoken[:2], "--threshold=-1"]
    high = ["verify", untrained, *spoken[:2], "--threshold=1"]
    assert main(low) == main(high) == 0
    assert main([*low, "--exit-status"]) == 0
    assert main([*high, "--exit-status"]) == 1
    capsys.readouterr()
    path = str(tmp_path / "calibration.json")
    Calibration(10.0, 2.0, 0.5, 9, folder_digest(untrained)).save(path)
    main(["verify", untrained, *spoken[:2], "--calibration", path, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["cosine"] == pytest.approx(wanted.cosine)
    assert found["log_likelihood_ratio"] == pytest.approx(
        10 * wanted.cosine + 2
    )
    main([*low[:-1], "--calibration", path, "--p-target=1e-9"])
    assert "warning: out of reach" in capsys.readouterr().err


@pytest.fixture
def hub(untrained, tmp_path, monkeypatch):
    """The cache of the hub's client, with the published model in it."""
    place = tmp_path / "hub" / "models--speechbrain--spkrec-ecapa-voxceleb"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    shutil.copytree(untrained, place / "snapshots" / "abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_two_recordings_and_nothing_else(hub, spoken, capsys):
    assert main(["verify", *spoken[:2], "-q"]) == 0
    said = capsys.readouterr().out
    assert (
        " >= 0.250: same speaker (speechbrain/spkrec-ecapa-voxceleb, " in said
    )
    assert said.endswith("at SpeechBrain's documented threshold)\n")
    main(["verify", "--json", *spoken[:2], "--threshold=1"])
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "speechbrain/spkrec-ecapa-voxceleb"
    assert found["threshold"] == 1 and found["same_speaker"] is False


def test_without_a_network_the_way_to_the_model_is_told(spoken, refused):
    said = refused("verify", *spoken[:2])
    assert "hf download speechbrain/spkrec-ecapa-voxceleb --local-dir" in said
    assert "\n" not in said


def test_conversion_and_doubts_are_said_once(
    untrained, spoken, capsys, tmp_path, monkeypatch
):
    samples, _ = soundfile.read(spoken[0])
    telephone = str(tmp_path / "8k.wav")
    soundfile.write(telephone, np.stack([samples[::2]] * 2, 1), 8000)
    pair = ["verify", untrained, telephone, telephone, "--threshold=0.5"]
    main(pair)
    said = capsys.readouterr()
    assert "same speaker" in said.out and "cosine 1.000" in said.out
    assert said.err.count("8000 Hz to 16000 Hz, 2 channels to 1") == 1
    main([*pair, "-q"])
    assert capsys.readouterr().err == ""
    noise = str(tmp_path / "noise.wav")
    soundfile.write(
        noise, 0.1 * np.random.default_rng(0).normal(size=9000), 16000
    )
    arguments = ["verify", untrained, noise, "-", "--threshold=0.5"]
    with open(spoken[0], "rb") as file:
        stdin = types.SimpleNamespace(buffer=io.BytesIO(file.read()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main([*arguments, "--exit-status"]) == 2
    said = capsys.readouterr()
    assert "no decision" in said.out
    assert f"warning: {noise}: no speech" in said.err


def test_embed_and_its_lists(untrained, spoken, capsys, tmp_path, refused):
    output = str(tmp_path / "out.npz")
    main(["embed", untrained, *spoken, "--output", output])
    vectors = load_embeddings(output)
    assert list(vectors) == spoken
    np.testing.assert_array_equal(
        np.stack(list(vectors.values())),
        SpeakerVerifier.load(untrained).embed(spoken),
    )
    scp = tmp_path / "wav.scp"
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    lines = [f"u{i} {p}\n" for i, p in enumerate([*spoken, broken, "gone"])]
    scp.write_text("".join(lines))
    listed = ["embed", untrained, "--list", scp, "--output", output]
    assert "gone: there is no such recording" in refused(*listed)
    capsys.readouterr()
    main([*map(str, listed), "--skip-bad"])
    said = capsys.readouterr()
    assert (
        "2 of 5 recordings skipped" in said.err and "3 embeddings" in said.out
    )
    assert f"skipped: {broken}" in said.err
    assert list(load_embeddings(output)) == ["u0", "u1", "u2"]
    scp.write_text("".join(lines[:-1]))
    assert f"{broken}: " in refused(*listed)
    assert refused(*listed).endswith("; --skip-bad goes on without it")
    scp.write_text("u0 gone\n")
    assert "none of the recordings" in refused(*listed, "--skip-bad")
    for path, said in {
        "a.csv": "end it in .npz, .ark or .scp",
        tmp_path / "no" / "a.npz": f"there is no folder {tmp_path / 'no'}",
    }.items():
        asked = ["embed", untrained, spoken[0], "--output", path]
        assert said in refused(*asked)
    assert "name recordings" in refused("embed", untrained, "--output", output)


def test_score(untrained, spoken, capsys, tmp_path):
    pairs, scp = tmp_path / "pairs.txt", tmp_path / "wav.scp"
    scp.write_text("".join(f"u{i} {p}\n" for i, p in enumerate(spoken)))
    pairs.write_text("1 u0 u1\n0 u0 u2\n")
    arguments = ["score", untrained, str(pairs), "--recordings", str(scp)]
    main([*arguments, "--threshold=-1"])
    lines = [x.split("\t") for x in capsys.readouterr().out.splitlines()]
    verifier = SpeakerVerifier.load(untrained)
    for line, other in zip(lines, (1, 2)):
        wanted = verifier.verify(spoken[0], spoken[other]).cosine
        assert line[:3] == [str(2 - other), "u0", f"u{other}"]
        assert float(line[3]) == pytest.approx(wanted, abs=1e-6)
        assert line[4] == "same"
    output = str(tmp_path / "scores.txt")
    pairs.write_text(f"{spoken[0]}\t{spoken[1]}\n{spoken[0]}\tgone\n")
    main(
        ["score", untrained, str(pairs), "--skip-bad", "--json"]
        + ["--output", output]
    )
    assert "1 of 2 pairs scored" in capsys.readouterr().err
    with open(output) as file:
        (found,) = map(json.loads, file)
    assert found["second"] == spoken[1] and found["same_speaker"] is None


def test_stored_embeddings_are_compared(
    untrained, spoken, capsys, tmp_path, refused
):
    stored, pairs = str(tmp_path / "stored.npz"), tmp_path / "pairs.txt"
    main(["embed", untrained, *spoken, "--output", stored, "--json"])
    assert json.loads(capsys.readouterr().out)["embeddings"] == 3
    pairs.write_text(f"{spoken[0]}\t{spoken[1]}\n")
    asked = ["score", untrained, str(pairs), "--threshold=-1"]
    main(asked)
    heard = capsys.readouterr().out
    main([*asked, "--recordings", stored])
    assert capsys.readouterr().out == heard
    with np.load(stored) as parts:
        parts = dict(parts)
    np.savez(stored, **{**parts, "model": np.array("another")})
    asked += ["--recordings", stored]
    assert "embeddings of another model" in refused(*asked)
    del parts["model"]  # nobody knows
    np.savez(stored, **parts)
    main(asked)


def test_without_speech_nothing_is_embedded_or_enrolled(
    untrained, spoken, capsys, tmp_path, refused
):
    noise = str(tmp_path / "noise.wav")
    sound = 0.1 * np.random.default_rng(0).normal(size=32000)
    soundfile.write(noise, sound, 16000)
    output, voices = tmp_path / "out.npz", tmp_path / "voices.npz"
    for made, asked in (
        (voices, ["enrol", untrained, voices, "ann", spoken[0], noise]),
        (output, ["embed", untrained, spoken[0], noise, "--output", output]),
    ):
        said = f"{noise}: no speech in its 2.0 s; --skip-bad goes on"
        assert said in refused(*asked)
        assert not made.exists()
        capsys.readouterr()
        main([*map(str, asked), "--skip-bad"])
        assert "1 of 2 recordings skipped" in capsys.readouterr().err
    main(["voices", str(voices), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found == {"name": "ann", "recordings": 1}
    assert list(load_embeddings(output)) == spoken[:1]


def test_names_of_files_command_no_terminal(untrained, tmp_path, capsys):
    path = tmp_path / "a\x1b[2J\nb.wav"
    sound = 0.1 * np.random.default_rng(0).normal(size=32000)
    soundfile.write(str(path), sound, 16000)
    main(["verify", untrained, str(path), str(path)])
    with pytest.raises(SystemExit):
        main(["verify", untrained, str(path), f"{path}-gone"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\\x1b[2J" in said.err


def test_init(tmp_path, refused):
    """A clone's recipes and those of an installation, which a wheel holds."""
    built = tmp_path / "built"
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib"]
    subprocess.run([*command, built], cwd=ROOT, check=True)
    module = [sys.executable, "-m", "speechbrain_scl", "init"]
    subprocess.run(
        [*module, "ours"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built)},
        check=True,
    )
    main(["init", str(tmp_path / "clones")])
    for made in (tmp_path / "ours", tmp_path / "clones"):
        for name in ("recipes", "hparams"):
            for path in (ROOT / name).rglob("*.*"):
                if path.suffix in (".py", ".yaml", ".md"):
                    copy = made / path.relative_to(ROOT)
                    assert copy.read_bytes() == path.read_bytes()
        assert not list(made.rglob("__pycache__"))
    assert "is there already" in refused("init", tmp_path / "ours")
    example = made / "recipes/VoxCeleb/SpeakerRec/train_speaker_embeddings.py"
    done = subprocess.run(
        [sys.executable, example.name, "hparams/ecapa_scl.yaml"],
        cwd=example.parent,
        env={**os.environ, "PYTHONPATH": str(built)},
        capture_output=True,
        text=True,
    )
    assert "data_folder" in done.stderr and "Traceback" not in done.stderr


def test_voices(untrained, spoken, capsys, tmp_path, refused):
    voices = str(tmp_path / "voices.npz")
    main(["enrol", untrained, voices, "a:nn", *spoken[:2]])
    main(["enrol", untrained, voices, "bob", spoken[2]])
    assert "2 speaker(s)" in capsys.readouterr().out
    again = ["enrol", untrained, voices, "bob", spoken[2]]
    assert "--replace" in refused(*again)
    main([*again, "--replace"])
    capsys.readouterr()
    main(["voices", voices])
    assert capsys.readouterr().out.split("\n")[:2] == [
        "a:nn\t2 recording(s)",
        "bob\t1 recording(s)",
    ]
    arguments = ["identify", untrained, voices, spoken[2]]
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{spoken[2]}: no decision"
    assert lines[1].startswith("  bob: cosine 1.000") and len(lines) == 3
    main([*arguments, "--threshold=0.99", "--json", "--top=1"])
    found = json.loads(capsys.readouterr().out)
    assert found["speaker"] == "bob" and list(found["candidates"]) == ["bob"]
    main(["remove", voices, "bob"])
    main([*arguments, "--threshold=0.99999"])
    assert f"{spoken[2]}: unknown" in capsys.readouterr().out
    said = refused("remove", voices, "a:nn", "bob")
    assert "no voice bob among a:nn" in said
    main(["voices", voices])
    assert "a:nn" in capsys.readouterr().out


def test_mistakes_are_one_line(untrained, spoken, tmp_path, refused, capsys):
    verify = ["verify", untrained, *spoken[:2]]
    assert "there is no such recording" in refused(*verify[:3], "gone.wav")
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"trials": {}}')
    said = refused(*verify, "--calibration", metrics)
    assert f"{metrics}: not the calibration.json" in said
    assert "no such calibration" in refused(*verify, "--calibration", "gone")
    assert "between 0 and 1" in refused(*verify, "--p-target=2")
    assert "give a calibration" in refused(*verify, "--p-target=0.1")
    assert "--exit-status needs" in refused(*verify, "--exit-status")
    assert "only one" in refused("verify", untrained, "-", "-")
    assert "no such store" in refused("voices", "gone.npz")
    assert "no such file" in refused("score", untrained, "gone.txt")
    pairs = tmp_path / "pairs.txt"
    for text, said in {
        "": "the list is empty",
        "a b c d\n": "line 1: 'a b c d': two recordings",
        "a b c\n": "two recordings",
    }.items():
        pairs.write_text(text)
        assert said in refused("score", untrained, pairs)
    scp = tmp_path / "wav.scp"
    for text, said in {
        "a sox a.wav -p |\n": "commands are not run",
        "a\n": "`id path` is wanted",
        "a x\na y\n": "line 2: a comes twice",
    }.items():
        scp.write_text(text)
        assert said in refused(
            "embed", untrained, "--list", scp, "--output", "o.npz"
        )


@pytest.mark.parametrize(
    "module", ["speechbrain_scl", "speechbrain_scl.command_line.main"]
)
def test_help_is_light_from_each_door(module):
    """Nothing heavy is imported for it."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({module!r}, run_name='__main__')\n"
        "except SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'speechbrain', 'soundfile'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "speechbrain-scl verify MODEL" in done.stdout


def test_every_argument_has_a_help_text_and_there_is_a_version(capsys):
    from speechbrain_scl.command_line.main import _parser

    commands = _parser()._subparsers._group_actions[0].choices
    assert set(commands) >= {"verify", "identify", "embed", "score", "voices"}
    for command in commands.values():
        assert all(action.help for action in command._actions)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert __version__ in capsys.readouterr().out
