"""Shared set-up: a tiny corpus, and the recipe's scripts as users start them."""

import os
import subprocess
import sys

import pytest
import torch
from commands import MINI, RECIPE, ROOT, SMALL, within, write_noise
from hyperpyyaml import load_hyperpyyaml
from hypothesis import HealthCheck, settings
from small_brain import UNTRAINED
from warm_start import spare_descriptions, warm_runs

from demo.mini import make_mini_corpus
from demo.mini_cnceleb import make_mini_cnceleb
from demo.mini_tidyvoice import make_mini_tidyvoice
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.importutils import LazyModule
from speechbrain_scl.command_line.main import main
from speechbrain_scl.release.inference import save_inference_folder

# Hub libraries must not try the network, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests share a small machine; a few threads are faster than many, and two
# processes of tests have a core each.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
# Hypothesis asks every loaded module for its file; SpeechBrain's lazy modules
# would answer by importing an optional package that need not be there.
LazyModule.__file__ = None
spare_descriptions()

# A shared machine has slow moments; CI tries the same examples every time.
settings.register_profile(
    "project",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
settings.load_profile("project")

# The order of sums, and so the last bits, depend on the threads.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Six training and four test speakers of espeak-ng."""
    folder = tmp_path_factory.mktemp("corpus") / "mini"
    make_mini_corpus(str(folder), **MINI)
    return folder


@pytest.fixture(scope="session")
def cnceleb(corpus, tmp_path_factory):
    """The same voices in CN-Celeb's layout."""
    folder = tmp_path_factory.mktemp("cnceleb") / "corpus"
    languages = ("en-us", "cmn", "de", "es")  # all that the small corpus has
    make_mini_cnceleb(str(corpus), str(folder), languages)
    return folder


@pytest.fixture(scope="session")
def tidyvoice(corpus, tmp_path_factory):
    """The same voices in TidyVoice's layout."""
    folder = tmp_path_factory.mktemp("tidyvoice") / "corpus"
    make_mini_tidyvoice(str(corpus), str(folder))
    return folder


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """What SpeechBrain's recipe takes for noise and rooms, downloaded."""
    folder = tmp_path_factory.mktemp("sounds")
    write_noise(folder / "noise.wav")
    (folder / "data.zip").touch()
    return [f"--data_folder_{kind}={folder}" for kind in ("noise", "rir")]


@pytest.fixture(scope="session")
def run_script():
    """Runs a script of a recipe folder, which ends with a status; returns the
    finished process."""

    def run(script, *arguments, folder=RECIPE, status=0):
        done = subprocess.run(
            [sys.executable, script, *map(str, arguments)],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stderr[-3000:]
        return done

    return run


@pytest.fixture(scope="session")
def run_warm(tmp_path_factory):
    """The same in a copy of a process that has its imports done."""
    said = tmp_path_factory.mktemp("said")
    with warm_runs(said, PYTHONPATH=str(ROOT)) as start:

        def run(*command, folder=RECIPE, status=0, **options):
            done = start(*command, folder=folder, **options)
            assert done.returncode == status, done.stderr[-3000:]
            return done

        yield run


@pytest.fixture(scope="session")
def trained(corpus, run_script, tmp_path_factory):
    """The output folder of a short training."""
    output = tmp_path_factory.mktemp("results") / "train"
    run_script("train_speaker_embeddings.py", *SMALL, *within(corpus, output))
    return output


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """The inference folder of a tiny encoder with random parameters."""
    place = tmp_path_factory.mktemp("untrained")
    (place / "train.yaml").write_text(UNTRAINED)
    torch.manual_seed(0)
    hparams = load_hyperpyyaml(UNTRAINED)
    labels = CategoricalEncoder()
    labels.update_from_iterable(["ann", "bob"])
    labels.expect_len(2)
    folder = str(place / "inference")
    save_inference_folder(
        folder, str(place / "train.yaml"), "", hparams, labels
    )
    return folder


@pytest.fixture(scope="session")
def spoken(corpus):
    """Recordings: two of one speaker, one of another."""
    speakers = sorted((corpus / "wav").iterdir())
    first, second = (sorted(s.rglob("*.wav")) for s in speakers[:2])
    return [str(path) for path in (*first[:2], second[0])]


@pytest.fixture
def run(capsys):
    """Runs speechbrain-scl; its output and what it says beside."""

    def run(*arguments, status=0):
        capsys.readouterr()
        assert main([*map(str, arguments)]) == status
        return capsys.readouterr()

    return run


@pytest.fixture
def say(run):
    """A command's output."""
    return lambda *arguments, status=0: run(*arguments, status=status).out


@pytest.fixture
def refused(capsys):
    """What an error says."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        assert ended.value.code == 2
        _, error, said = capsys.readouterr().err.rpartition("error: ")
        return error + said.removesuffix("\n")

    return run
