"""Reading an experiment, and reading crops."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.training.crops import read_crop


@pytest.fixture
def yaml_file(tmp_path):
    path = tmp_path / "exp.yaml"
    path.write_text("lr: 0.1\nsource: !PLACEHOLDER\nlist: [1, 2]\n")
    return str(path)


def test_overrides(yaml_file):
    hparams, _, file, overrides = read_experiment(
        [yaml_file, "--source=http://a/?b=c&d=e=f", "--lr=0.2"]
    )
    assert hparams["source"] == "http://a/?b=c&d=e=f"
    assert hparams["list"] == [1, 2]
    assert file == yaml_file and "lr" in overrides


def test_the_last_of_equal_options_counts(yaml_file):
    arguments = [yaml_file, "--source=x", "--lr=0.2", "--lr=0.3"]
    assert read_experiment(arguments)[0]["lr"] == 0.3


def test_values_may_follow_their_option(yaml_file):
    hparams, run_opts, *_ = read_experiment(
        [yaml_file, "--device", "cpu", "--source", "-1.5", "--lr", "2"]
        + ["--compile_module_keys", "a", "b", "--debug"]
    )
    assert (hparams["source"], hparams["lr"]) == (-1.5, 2)
    assert run_opts.compile_module_keys == ["a", "b"] and run_opts.debug


def test_the_default_file(yaml_file):
    hparams, _, file, _ = read_experiment(["--source=x"], yaml_file)
    assert file == yaml_file and hparams["source"] == "x"
    with pytest.raises(UserError, match="PLACEHOLDER"):
        read_experiment([], yaml_file)


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("a: 1", ["--zz=2"], "--zz: neither a key"),
        ("lr: 1", ["--prceision=fp32"], "did you mean --precision or"),
        ("scale: 1", ["--scael=2"], "did you mean --scale"),
        ("a: [1", [], "not YAML"),
        ("just words", [], "not a list of"),
        ("a: 1", ["a=2"], "a=2: not an option"),
        ("a: 1", ["-a=2"], "-a=2: not an option"),
        ("a: 1", ["--a=2", "word"], "word: not an option"),
        ("a: 1", ["--a", "2", "word"], "word: not an option"),
        ("a: 1", ["--debug", "word"], "word: not an option"),
        (
            "part: !new:builtins.dict {b: 1}",
            ["--part=!new:builtins.list {b: 2}"],
            "to the object that is there",
        ),
        ("a: !new:no.such.thing", [], "no.such"),
        (
            "a: !new:speechbrain_scl.losses.SupConMarginLoss\n    margin: -1",
            [],
            "margin=-1",
        ),
    ],
)
def test_mistakes_name_the_file_and_the_value(tmp_path, text, options, message):
    path = tmp_path / "exp.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_experiment([str(path), *options])


def test_ctrl_c_leaves_no_traceback(capsys):
    with pytest.raises(SystemExit) as ended, user_errors_in_one_line():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_crops(tmp_path):
    path = str(tmp_path / "a.flac")
    soundfile.write(path, np.arange(1000) / 2000, 16000)
    whole, _ = soundfile.read(path, dtype="float32")
    whole = torch.from_numpy(whole)
    assert torch.equal(read_crop(path, 0, 1000, 200), whole[400:600])
    assert torch.equal(read_crop(path, 100, 300, 200, "x"), whole[100:300])
    short = read_crop(path, 0, 150, 400)
    assert torch.equal(short, whole[:150].repeat(3)[:400])
    crops = [read_crop(path, 0, 1000, 200, f"epoch {i}") for i in range(20)]
    again = [read_crop(path, 0, 1000, 200, f"epoch {i}") for i in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(crops, again))
    assert len({crop[0].item() for crop in crops}) > 10


def test_a_file_that_breaks_during_training_is_named(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("not audio")
    with pytest.raises(UserError, match="a.wav: cannot be read"):
        read_crop(str(path), 0, 100, 50)
    soundfile.write(path, np.full(100, np.nan), 16000, "FLOAT")
    with pytest.raises(UserError, match="not finite"):
        read_crop(str(path), 0, 100, 50)


@pytest.mark.parametrize(
    "signal, rate, said",
    [
        (np.full(100, 0.1), 8000, "8000 Hz instead of 16000"),
        (np.full(60, 0.1), 16000, "shorter"),
        (np.zeros(100), 16000, "silent"),
    ],
)
def test_a_file_that_was_replaced_is_named(tmp_path, signal, rate, said):
    path = tmp_path / "a.wav"
    soundfile.write(path, signal, rate)
    with pytest.raises(UserError, match=f"a.wav: it has changed .*{said}"):
        read_crop(str(path), 0, 100, 90, rate=16000)
    # Silence within a recording is none of that.
    soundfile.write(path, np.r_[np.zeros(60), np.ones(40) / 9], 16000)
    assert not read_crop(str(path), 0, 60, 50, rate=16000).any()


def test_a_path_that_looks_like_a_reference_is_told(tmp_path):
    path = tmp_path / "exp.yaml"
    path.write_text("folder: a\nother: !ref <folder>/b")
    with pytest.raises(UserError, match="--folder=/data/<mine>: .*rename"):
        read_experiment([str(path), "--folder=/data/<mine>"])
    found = read_experiment([str(path), "--other=!ref <folder>/c"])[0]
    assert found["other"] == "a/c"
