"""Reading an experiment: any value of any key runs, or is one clear error."""

import contextlib
import json
import logging

import hypothesis.strategies as st
import pytest
import speaker_verification_cosine
import train_speaker_embeddings
import yaml
from commands import RECIPE, ROOT, SMALL, verification, within
from hypothesis import given, settings

import speechbrain as sb
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.errors import UserError, user_errors_in_one_line


@pytest.fixture
def yaml_file(tmp_path):
    path = tmp_path / "exp.yaml"
    path.write_text("lr: 0.1\nsource: !PLACEHOLDER\nlist: [1, 2]\n")
    return str(path)


def test_overrides(yaml_file):
    hparams, _, file, overrides = read_experiment(
        [yaml_file, "--source=http://a/?b=c&d=e=f", "--lr=0.2", "--lr=0.3"]
    )
    assert hparams["source"] == "http://a/?b=c&d=e=f"
    assert hparams["list"] == [1, 2]
    assert hparams["lr"] == 0.3  # the last one counts
    assert file == yaml_file and "lr" in overrides
    # A value may follow its option.
    hparams, run_opts, *_ = read_experiment(
        [yaml_file, "--device", "cpu", "--source", "-1.5", "--lr", "2"]
        + ["--compile_module_keys", "a", "b", "--debug"]
    )
    assert (hparams["source"], hparams["lr"]) == (-1.5, 2)
    assert run_opts.compile_module_keys == ["a", "b"] and run_opts.debug
    # The file where none is named, and a reference to another key
    hparams, *_ = read_experiment(["--source=!ref <lr>/x"], yaml_file)
    assert hparams["source"] == "0.1/x"
    with pytest.raises(UserError, match="PLACEHOLDER"):
        read_experiment([], yaml_file)


LOSS = "a: !new:speechbrain_scl.losses.SupConMarginLoss {margin: -1}"


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
            "part: !new:builtins.dict {}",
            ["--part=!new:builtins.list {}"],
            "to the object that is there",
        ),
        ("a: !new:no.such.thing", [], "no.such"),
        (LOSS, [], "margin=-1"),
        ("folder: b", ["--folder=/<my>"], "--folder=/<my>: .*rename"),
        ("lr: 1", ["--lr=fast"], "exp.yaml: lr='fast': .*, above 0"),
        ("seed: 1", ["--seed=-1"], "whole number, between 0 and 4.29"),
        ("near_speakers: null", ["--near_speakers=-1"], "near_speakers=-1: "),
        ("without: null", ["--without=[a]"], "without=.'a'.: "),
        ("crops: 1", ["--crops=[0, 3.0]"], "such as .5, 3.0."),
    ],
)
def test_mistakes_name_the_file_and_the_value(tmp_path, text, options, message):
    path = tmp_path / "exp.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_experiment([str(path), *options])


def test_known_noise_is_dropped_and_nothing_else(yaml_file, caplog):
    for _ in range(2):
        read_experiment([yaml_file, "--source=x"])
    schedules = logging.getLogger("speechbrain.nnet.schedulers")
    assert len(schedules.filters) == 1
    with caplog.at_level(logging.INFO):
        schedules.info("Changing lr from 0.1 to 0.09")
        schedules.info("another message")
        logging.getLogger("torch.utils.cpp_extension").error("CUDA_HOME: no")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["another message", "CUDA_HOME: no"]


def test_ctrl_c_and_files_leave_no_traceback(capsys):
    with pytest.raises(SystemExit, match="'gone/a'.*allow access"):
        with user_errors_in_one_line():
            open("gone/a", "w")
    capsys.readouterr()
    log = logging.FileHandler("/dev/full")
    with pytest.raises(SystemExit) as ended, user_errors_in_one_line():
        log.emit(logging.makeLogRecord({"msg": "lost"}))
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


# Where things are written is the test's own affair; the rest is fair game.
FIXED = {"output_folder", "save_folder", "inference_folder", "data_folder"}
VALUES = ["-1", "0", "0.5", "1", "abc", "null", "[]", "{}", ".nan", ".inf"]
VALUES += ["-1.5", "1e9", "99999999", "True", "''", "[a, 1]", "!ref <no>", "{"]


def any_value_of(name):
    """Tries ten values of keys of a training or verification file."""
    text = (ROOT / "hparams" / name).read_text(encoding="utf-8")
    keys = [key.value for key, _ in yaml.compose(text).value]
    keys = [k for k in keys if not k.startswith("__") and k not in FIXED]
    key, value = st.sampled_from(keys), st.sampled_from(VALUES)
    some = settings(max_examples=10)
    return lambda test: some(given(key=key, value=value)(test))


class OneStep(SupConSpeakerBrain):
    """A first batch of training and of validation stand for all epochs."""

    def fit(self, counter, train, valid, **loaders):
        self.on_fit_start()
        epoch = next(iter(counter))

        def first_batch(data, stage):
            options = loaders[f"{stage.name.lower()}_loader_kwargs"]
            return next(iter(self.make_dataloader(data, stage, **options)))

        self.on_stage_start(sb.Stage.TRAIN, epoch)
        assert self.fit_batch(first_batch(train, sb.Stage.TRAIN)).isfinite()
        first_batch(valid, sb.Stage.VALID)


@pytest.fixture
def quiet(monkeypatch, caplog, tmp_path):
    """In this process, and a folder for files of any name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_speaker_embeddings, "SupConSpeakerBrain", OneStep)
    caplog.set_level("CRITICAL")


@any_value_of("ecapa_small.yaml")
def test_any_training(key, value, quiet, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    # SpeechBrain's parser of its run options ends the program by itself.
    with contextlib.suppress(UserError, SystemExit):
        train_speaker_embeddings.main(
            [str(RECIPE / SMALL[0]), *SMALL[1:], *within(corpus, output)]
            + [f"--{key}={value}"]
        )


@any_value_of("verification_small.yaml")
def test_any_verification(key, value, quiet, corpus, trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    with contextlib.suppress(UserError):
        speaker_verification_cosine.main(
            verification(trained, corpus, output)
            + ["--bootstrap=2", f"--{key}={value}"]
        )
        found = json.loads((output / "metrics.json").read_text())
        for figures in found["trials"].values():
            assert 0 <= figures["eer"] <= 1 and 0 <= figures["min_dcf"] <= 1
