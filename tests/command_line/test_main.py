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
from commands import ROOT, write_noise
from huggingface_hub import constants

from speechbrain_scl.command_line.main import main
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest, load_embeddings
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def noise(tmp_path):
    return write_noise(tmp_path / "noise.wav", 2)


def test_verify(untrained, spoken, run, say, tmp_path):
    wanted = SpeakerVerifier.load(untrained).verify(*spoken[:2])
    asked = ["verify", untrained, *spoken[:2]]
    assert say(*asked) == f"{wanted}\n" and "no decision" in str(wanted)
    assert "same" in say(*asked, "--threshold=-1", "--exit-status")
    say(*asked, "--threshold=1", "--exit-status", status=1)
    path = str(tmp_path / "calibration.json")
    Calibration(10.0, 2.0, 0.5, 9, folder_digest(untrained)).save(path)
    said = run(*asked, "--calibration", path, "--p-target=1e-9", "--json")
    found = json.loads(said.out)
    assert found["cosine"] == pytest.approx(wanted.cosine)
    ratio = found["log_likelihood_ratio"]
    assert ratio == pytest.approx(10 * wanted.cosine + 2)
    assert "warning: out of reach" in said.err


def test_without_model(untrained, spoken, say, refused, tmp_path, monkeypatch):
    said = refused("verify", *spoken[:2])  # without a network
    assert "hf download speechbrain/spkrec-ecapa-voxceleb --local-dir" in said
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


def test_doubts_are_said(untrained, spoken, noise, run, tmp_path, monkeypatch):
    samples, _ = soundfile.read(spoken[0])
    telephone = str(tmp_path / "8k.wav")
    soundfile.write(telephone, np.stack([samples[::2]] * 2, 1), 8000)
    pair = ["verify", untrained, telephone, telephone, "--threshold=0.5"]
    said = run(*pair)
    assert "same speaker" in said.out and "cosine 1.000" in said.out
    assert said.err.count("8000 Hz to 16000 Hz, 2 channels to 1") == 1
    assert run(*pair, "-q").err == ""
    with open(spoken[0], "rb") as file:
        stdin = types.SimpleNamespace(buffer=io.BytesIO(file.read()))
    monkeypatch.setattr(sys, "stdin", stdin)
    pair = ["verify", untrained, noise, "-", "--threshold=0.5"]
    said = run(*pair, "--exit-status", status=2)
    assert "no decision" in said.out
    assert f"warning: {noise}: no speech" in said.err


def test_embed_and_its_lists(untrained, spoken, run, tmp_path, refused):
    output, scp = tmp_path / "out.npz", tmp_path / "wav.scp"
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    lines = [f"u{i} {p}\n" for i, p in enumerate([*spoken, broken, "gone"])]
    scp.write_text("".join(lines))
    listed = ["embed", untrained, "--list", scp, "--output", output]
    said = run(*listed, "--skip-bad")
    assert "2 of 5 recordings skipped" in said.err
    assert f"skipped: {broken}" in said.err and "3 embeddings" in said.out
    vectors = load_embeddings(output)
    assert list(vectors) == ["u0", "u1", "u2"]
    wanted = SpeakerVerifier.load(untrained).embed(spoken)
    np.testing.assert_array_equal([*vectors.values()], wanted)
    for text, said, *more in (
        ("".join(lines), "gone: there is no such recording"),
        (lines[3] + lines[0], "; --skip-bad goes on without it"),
        ("u0 gone\n", "none of the recordings", "--skip-bad"),
        ("a sox a.wav -p |\n", "commands are not run"),
        ("a\n", "only one field"),
        ("a x\na y\n", "line 2: a comes twice"),
    ):
        scp.write_text(text)
        assert said in refused(*listed, *more)


def test_score(untrained, spoken, run, say, tmp_path, refused):
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
    asked = ["score", untrained, pairs]
    said = run(*asked, "--skip-bad", "--json", "--output", output)
    assert "1 of 2 pairs scored" in said.err
    found = json.loads(output.read_text())
    assert found["second"] == spoken[1] and found["same_speaker"] is None
    for text, said in {
        "": "the list is empty",
        "a b c d\n": "line 1: 'a b c d': two recordings",
        "a b c\n": "two recordings",
    }.items():
        pairs.write_text(text)
        assert said in refused(*asked)


def test_without_speech(untrained, spoken, noise, run, say, tmp_path, refused):
    output, voices = tmp_path / "out.npz", tmp_path / "voices.npz"
    for made, asked in (
        (voices, ["enrol", untrained, voices, "ann", spoken[0], noise]),
        (output, ["embed", untrained, spoken[0], noise, "--output", output]),
    ):
        said = f"{noise}: no speech in its 2.0 s; --skip-bad goes on"
        assert said in refused(*asked)
        assert not made.exists()
        said = run(*asked, "--skip-bad").err
        assert "1 of 2 recordings skipped" in said
    found = json.loads(say("voices", voices, "--json"))
    assert found == {"name": "ann", "recordings": 1}
    assert list(load_embeddings(output)) == spoken[:1]


def test_names_command_no_terminal(untrained, noise, tmp_path, run, refused):
    path = str(tmp_path / "a\x1b[2J\nb.wav")
    shutil.copy(noise, path)
    said = "".join(run("verify", untrained, path, path))
    said += refused("verify", untrained, path, f"{path}-gone")
    assert "\x1b" not in said and "\\x1b[2J" in said


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
                path = path.relative_to(ROOT)
                if path.suffix not in (".py", ".yaml", ".md"):
                    continue
                if "results" not in path.parts:  # of one's own trainings
                    copied = (made / path).read_bytes()
                    assert copied == (ROOT / path).read_bytes()
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


def test_mistakes_are_one_line(untrained, spoken, refused, tmp_path):
    verify = ["verify", untrained, *spoken[:2]]
    embed = ["embed", untrained, spoken[0], "--output"]
    for said, asked in {
        "no such recording": [*verify[:3], "gone.wav"],
        "no such calibration": [*verify, "--calibration", "gone"],
        "--exit-status needs": [*verify, "--exit-status"],
        "only one": ["verify", untrained, "-", "-"],
        "no such store": ["voices", "gone.npz"],
        "no such file": ["score", untrained, "gone.txt"],
        "end it in .npz, .ark or .scp": [*embed, "a.csv"],
        f"there is no folder {tmp_path}/no": [*embed, tmp_path / "no/a.npz"],
        "name recordings": [*embed[:2], "--output=a.npz"],
    }.items():
        error = refused(*asked)
        assert said in error and "\n" not in error


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START]
    said = subprocess.check_output(command, env=environment, text=True)
    assert "speechbrain-scl verify MODEL" in said
