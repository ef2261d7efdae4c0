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
from speechbrain_scl.command_line.main import _parser, main
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest, load_embeddings
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def say(capsys):
    """What a command prints as its result."""

    def run(*arguments, status=0):
        capsys.readouterr()
        assert main([*map(str, arguments)]) == status
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused():
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        assert ended.value.code == 2
        return str(ended.value)

    return run


@pytest.fixture
def noise(tmp_path):
    path = str(tmp_path / "noise.wav")
    sound = 0.1 * np.random.default_rng(0).normal(size=32000)
    soundfile.write(path, sound, 16000)
    return path


def test_verify(untrained, spoken, say, capsys, tmp_path):
    wanted = SpeakerVerifier.load(untrained).verify(*spoken[:2])
    asked = ["verify", untrained, *spoken[:2]]
    assert say(*asked) == f"{wanted}\n" and "no decision" in str(wanted)
    assert "same" in say(*asked, "--threshold=-1", "--exit-status")
    say(*asked, "--threshold=1", "--exit-status", status=1)
    path = str(tmp_path / "calibration.json")
    Calibration(10.0, 2.0, 0.5, 9, folder_digest(untrained)).save(path)
    asked += ["--calibration", path, "--p-target=1e-9", "--json"]
    assert main(asked) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["cosine"] == pytest.approx(wanted.cosine)
    ratio = found["log_likelihood_ratio"]
    assert ratio == pytest.approx(10 * wanted.cosine + 2)
    assert "warning: out of reach" in said.err


def test_two_recordings_and_nothing_else(
    untrained, spoken, say, refused, tmp_path, monkeypatch
):
    said = refused("verify", *spoken[:2])  # without a network
    assert "hf download speechbrain/spkrec-ecapa-voxceleb --local-dir" in said
    assert "\n" not in said
    # The cache of the hub's client, with the published model in it
    place = tmp_path / "hub" / "models--speechbrain--spkrec-ecapa-voxceleb"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    shutil.copytree(untrained, place / "snapshots" / "abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    said = say("verify", *spoken[:2], "-q")
    model = "speechbrain/spkrec-ecapa-voxceleb"
    assert f" >= 0.250: same speaker ({model}, " in said
    assert said.endswith("at SpeechBrain's documented threshold)\n")
    found = say("verify", "--json", *spoken[:2], "--threshold=1")
    found = json.loads(found)
    assert found["model"] == model
    assert found["threshold"] == 1 and found["same_speaker"] is False


def test_conversion_and_doubts_are_said_once(
    untrained, spoken, noise, capsys, tmp_path, monkeypatch
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
    scp = tmp_path / "wav.scp"
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    lines = [f"u{i} {p}\n" for i, p in enumerate([*spoken, broken, "gone"])]
    scp.write_text("".join(lines))
    listed = ["embed", untrained, "--list", str(scp), "--output", output]
    assert "gone: there is no such recording" in refused(*listed)
    capsys.readouterr()
    main([*listed, "--skip-bad"])
    said = capsys.readouterr()
    assert "2 of 5 recordings skipped" in said.err
    assert f"skipped: {broken}" in said.err and "3 embeddings" in said.out
    vectors = load_embeddings(output)
    assert list(vectors) == ["u0", "u1", "u2"]
    wanted = SpeakerVerifier.load(untrained).embed(spoken)
    np.testing.assert_array_equal([*vectors.values()], wanted)
    scp.write_text(lines[3] + lines[0])
    said = refused(*listed)
    assert f"{broken}: " in said
    assert said.endswith("; --skip-bad goes on without it")
    scp.write_text("u0 gone\n")
    assert "none of the recordings" in refused(*listed, "--skip-bad")
    for path, said in {
        "a.csv": "end it in .npz, .ark or .scp",
        tmp_path / "no" / "a.npz": f"there is no folder {tmp_path / 'no'}",
    }.items():
        asked = ["embed", untrained, spoken[0], "--output", path]
        assert said in refused(*asked)
    assert "name recordings" in refused("embed", untrained, "--output", output)
    for text, said in {
        "a sox a.wav -p |\n": "commands are not run",
        "a\n": "only one field",
        "a x\na y\n": "line 2: a comes twice",
    }.items():
        scp.write_text(text)
        assert said in refused(*listed)


def test_score(untrained, spoken, say, capsys, tmp_path, refused):
    pairs, scp = tmp_path / "pairs.txt", tmp_path / "wav.scp"
    scp.write_text("".join(f"u{i} {p}\n" for i, p in enumerate(spoken)))
    pairs.write_text("1 u0 u1\n0 u0 u2\n")
    asked = ["score", untrained, pairs, "--recordings"]
    heard = say(*asked, scp, "--threshold=-1")
    vectors = SpeakerVerifier.load(untrained).embed(spoken)
    for line, other in zip(heard.splitlines(), (1, 2), strict=True):
        *names, cosine, decision = line.split("\t")
        assert names == [str(2 - other), "u0", f"u{other}"]
        wanted = vectors[0] @ vectors[other]
        assert float(cosine) == pytest.approx(wanted, abs=1e-6)
        assert decision == "same"
    # The same of stored embeddings, which name their model
    stored = tmp_path / "stored.npz"
    said = say("embed", untrained, "--list", scp, "--output", stored, "--json")
    assert json.loads(said)["embeddings"] == 3
    assert say(*asked, stored, "--threshold=-1") == heard
    with np.load(stored) as parts:
        parts = dict(parts)
    np.savez(stored, **{**parts, "model": np.array("another")})
    assert "embeddings of another model" in refused(*asked, stored)
    del parts["model"]  # nobody knows
    np.savez(stored, **parts)
    say(*asked, stored)
    pairs.write_text(f"{spoken[0]}\t{spoken[1]}\n{spoken[0]}\tgone\n")
    output = tmp_path / "scores.txt"
    asked = ["score", untrained, str(pairs)]
    main([*asked, "--skip-bad", "--json", "--output", str(output)])
    assert "1 of 2 pairs scored" in capsys.readouterr().err
    found = json.loads(output.read_text())
    assert found["second"] == spoken[1] and found["same_speaker"] is None
    for text, said in {
        "": "the list is empty",
        "a b c d\n": "line 1: 'a b c d': two recordings",
        "a b c\n": "two recordings",
    }.items():
        pairs.write_text(text)
        assert said in refused(*asked)


def test_without_speech_nothing_is_embedded_or_enrolled(
    untrained, spoken, noise, say, capsys, tmp_path, refused
):
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
    found = json.loads(say("voices", voices, "--json"))
    assert found == {"name": "ann", "recordings": 1}
    assert list(load_embeddings(output)) == spoken[:1]


def test_names_of_files_command_no_terminal(untrained, noise, tmp_path, capsys):
    path = str(tmp_path / "a\x1b[2J\nb.wav")
    shutil.copy(noise, path)
    main(["verify", untrained, path, path])
    with pytest.raises(SystemExit):
        main(["verify", untrained, path, f"{path}-gone"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\\x1b[2J" in said.err


def test_init(tmp_path, refused):
    """A clone's recipes and those of an installation, which a wheel holds."""
    built = tmp_path / "built"
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib"]
    subprocess.run([*command, built], cwd=ROOT, check=True)
    for path in (ROOT / "speechbrain_scl").rglob("*.*"):
        if path.suffix != ".pyc":
            assert (built / path.relative_to(ROOT)).is_file(), path
    module = [sys.executable, "-m", "speechbrain_scl", "init", "ours"]
    environment = {**os.environ, "PYTHONPATH": str(built)}
    subprocess.run(module, cwd=tmp_path, env=environment, check=True)
    main(["init", str(tmp_path / "clones")])
    for made in (tmp_path / "ours", tmp_path / "clones"):
        for name in ("recipes", "hparams"):
            for path in (ROOT / name).rglob("*.*"):
                if path.suffix in (".py", ".yaml", ".md"):
                    copy = made / path.relative_to(ROOT)
                    assert copy.read_bytes() == path.read_bytes()
        assert not list(made.rglob("__pycache__"))
    assert "is there already" in refused("init", tmp_path / "ours")


def test_voices(untrained, spoken, say, tmp_path, refused):
    voices = str(tmp_path / "voices.npz")
    say("enrol", untrained, voices, "a:nn", *spoken[:2])
    bob = ["enrol", untrained, voices, "bob", spoken[2]]
    assert "2 speaker(s)" in say(*bob)
    assert "--replace" in refused(*bob)
    say(*bob, "--replace")
    said = say("voices", voices).splitlines()
    assert said == ["a:nn\t2 recording(s)", "bob\t1 recording(s)"]
    asked = ["identify", untrained, voices, spoken[2]]
    lines = say(*asked).splitlines()
    assert lines[0] == f"{spoken[2]}: no decision"
    assert lines[1].startswith("  bob: cosine 1.000") and len(lines) == 3
    found = json.loads(say(*asked, "--threshold=0.99", "--json", "--top=1"))
    assert found["speaker"] == "bob" and list(found["candidates"]) == ["bob"]
    say("remove", voices, "bob")
    assert f"{spoken[2]}: unknown" in say(*asked, "--threshold=0.99999")
    said = refused("remove", voices, "a:nn", "bob")
    assert "no voice bob among a:nn" in said
    assert "a:nn" in say("voices", voices)


def test_mistakes_are_one_line(untrained, spoken, refused, capsys):
    verify = ["verify", untrained, *spoken[:2]]
    for said, asked in {
        "no such recording": [*verify[:3], "gone.wav"],
        "no such calibration": [*verify, "--calibration", "gone"],
        "--exit-status needs": [*verify, "--exit-status"],
        "only one": ["verify", untrained, "-", "-"],
        "no such store": ["voices", "gone.npz"],
        "no such file": ["score", untrained, "gone.txt"],
    }.items():
        assert said in refused(*asked)
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


START = """
import runpy, sys
sys.argv = ["x", "--help"]
try: runpy.run_module("speechbrain_scl", run_name="__main__")
except SystemExit as ended: assert not ended.code
heavy = {"torch", "numpy", "scipy", "speechbrain", "soundfile"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from speechbrain.inference.speaker import EncoderClassifier
before = {name.split(".")[0] for name in sys.modules}
import speechbrain_scl.command_line.speakers
more = {name.split(".")[0] for name in sys.modules} - before
small = {"speechbrain_scl", "filelock", "soundfile", "_soundfile", "shlex"}
small |= {"ctypes", "_ctypes", "_cffi_backend", "_soundfile_data"}
assert more <= small, more
"""


def test_help_is_light_and_a_command_imports_little():
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "speechbrain-scl verify MODEL" in done.stdout


def test_every_argument_has_a_help_text_and_there_is_a_version(capsys):
    commands = _parser()._subparsers._group_actions[0].choices
    assert set(commands) >= {"verify", "identify", "embed", "score", "voices"}
    for command in commands.values():
        assert all(action.help for action in command._actions)
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert __version__ in capsys.readouterr().out
