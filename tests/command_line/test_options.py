"""Any value of any key: a training that runs, or one clear error."""

import contextlib

import pytest
import yaml
from commands import RECIPE, ROOT, SMALL, trial_option
from hypothesis import (
    HealthCheck,
    given,
    settings,
    strategies as st,
)
from voxceleb_prepare import prepare_voxceleb

import speechbrain as sb
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.verification import verify
from speechbrain_scl.training import run

# Where things are written is the test's own affair; the rest is fair game.
FIXED = {"output_folder", "save_folder", "inference_folder", "data_folder"}
VALUES = ["-1", "0", "0.5", "1", "abc", "null", "[]", "{}", ".nan", ".inf"]
VALUES += ["-1.5", "1e9", "99999999", "True", "''", "[a, 1]", "!ref <no>", "{"]


def keys(name):
    """The keys of a training or verification file."""
    text = (ROOT / "hparams" / name).read_text(encoding="utf-8")
    found = [key.value for key, _ in yaml.compose(text).value]
    return [k for k in found if not k.startswith("__") and k not in FIXED]


class OneStep(SupConSpeakerBrain):
    """A first batch of training and of validation stand for all epochs."""

    def fit(self, counter, train, valid, **loaders):
        self.on_fit_start()
        epoch = next(iter(counter))
        loader = self.make_dataloader(
            train, sb.Stage.TRAIN, **loaders["train_loader_kwargs"]
        )
        self.on_stage_start(sb.Stage.TRAIN, epoch)
        loss = self.fit_batch(next(iter(loader)))
        assert loss.isfinite()
        loader = self.make_dataloader(
            valid, sb.Stage.VALID, **loaders["valid_loader_kwargs"]
        )
        next(iter(loader))


@pytest.fixture
def quiet(monkeypatch, caplog, tmp_path):
    """In this process, and a folder for files of any name."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("CRITICAL")


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    key=st.sampled_from(keys("ecapa_small.yaml")), value=st.sampled_from(VALUES)
)
def test_a_training_runs_or_says_why_not(
    key, value, quiet, corpus, tmp_path_factory
):
    output = tmp_path_factory.mktemp("out")
    # SpeechBrain's parser of its run options ends the program by itself.
    with contextlib.suppress(UserError, SystemExit):
        hparams, run_opts, file, overrides = read_experiment(
            [
                str(RECIPE / SMALL[0]),
                *SMALL[1:],
                f"--data_folder={corpus}",
                f"--output_folder={output}",
                trial_option(corpus, "verification_file"),
                f"--{key}={value}",
            ]
        )
        options = ("valid_speakers", "min_duration", "check_audio", "seed")
        prepare_voxceleb(
            hparams["data_folder"],
            hparams["save_folder"],
            hparams["verification_file"],
            max_excluded=hparams["max_excluded"],
            skip_prep=hparams["skip_prep"],
            **{option: hparams[option] for option in options},
        )
        run.train(OneStep, hparams, run_opts, file, overrides)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    key=st.sampled_from(keys("verification_small.yaml")),
    value=st.sampled_from(VALUES),
)
def test_a_verification_measures_or_says_why_not(
    key, value, quiet, corpus, trained, tmp_path_factory
):
    output = tmp_path_factory.mktemp("out")
    with contextlib.suppress(UserError):
        params, run_opts, *_ = read_experiment(
            [
                str(ROOT / "hparams" / "verification_small.yaml"),
                f"--data_folder={corpus}",
                f"--pretrain_path={trained / 'inference'}",
                f"--cohort={trained / 'save' / 'train.csv'}",
                trial_option(corpus, "verification_file"),
                "--bootstrap=2",
                f"--output_folder={output}",
                f"--{key}={value}",
            ]
        )
        output.mkdir(exist_ok=True)
        for figures in verify(params, run_opts).values():
            assert 0 <= figures["eer"] <= 1 and 0 <= figures["min_dcf"] <= 1


def test_the_error_names_file_key_value_and_remedy():
    file = str(RECIPE / "hparams" / "ecapa_scl.yaml")
    with pytest.raises(UserError, match="ecapa_scl.yaml: lr='fast'.* above 0"):
        read_experiment([file, "--lr=fast"])
