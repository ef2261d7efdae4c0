"""The pull requests: SpeechBrain's own rules, the package's maths, and that
they run.

SPEECHBRAIN_CHECKOUT=/path runs CONTRIBUTING's commands on a clone of it;
OLDEST_PYTHON=/path runs the exported unit tests in another environment.
"""

import ast
import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from commands import ROOT

import speechbrain
from speechbrain.utils.metric_stats import EER, minDCF
from speechbrain.utils.run_opts import RunOptions
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.samplers import SpeakerBatchSampler

sys.path.insert(0, str(ROOT / "upstream"))
import export  # noqa: E402

VOXCELEB = "recipes/VoxCeleb/SpeakerRec"
CNCELEB = export.CNCELEB
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance\n"
)
CONFTEST = '''"""As SpeechBrain's."""

import pytest


@pytest.fixture
def device():
    """Where its tests run."""
    return "cpu"
'''


def load(path):
    """A module of a file."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout(folder):
    """The installed SpeechBrain, in the shape of a checkout."""
    shutil.copytree(
        Path(speechbrain.__file__).parent,
        folder / "speechbrain",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    recipe = folder / VOXCELEB
    (recipe / "hparams").mkdir(parents=True)
    (folder / "tests" / "recipes").mkdir(parents=True)
    (folder / "tests" / "recipes" / "VoxCeleb.csv").write_text(COLUMNS)
    (folder / "conftest.py").write_text(CONFTEST)
    (recipe / "README.md").write_text(
        "# Theirs\n\n## Speaker verification with PLDA\nTheirs\n"
    )
    (recipe / "voxceleb_prepare.py").write_text('"""Theirs."""\n')
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """With all three series; nothing of this package can be imported."""
    tree = checkout(tmp_path_factory.mktemp("speechbrain"))
    export.write(export.planned(tree, "cnceleb"))
    (tree / "sitecustomize.py").write_text(
        '"""Hides the package."""\n\nimport sys\n\n'
        'sys.modules["speechbrain_scl"] = None\n'
    )
    return tree


def run(tree, *arguments, python=sys.executable):
    """What a command of the tree says."""
    done = subprocess.run(
        [python, *map(str, arguments)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-5000:]
    return said


def written(tree):
    """The Python files of the series, without links."""
    return [
        tree / "speechbrain" / "dataio" / "sampler.py",
        *(
            path
            for folder in ("losses", "voxceleb", "cnceleb")
            for source in (ROOT / "upstream" / folder).glob("*/**/*.py")
            for path in [tree / source.relative_to(ROOT / "upstream" / folder)]
        ),
    ]


def test_series_build_on_each_other_and_are_written_once(tmp_path):
    tree = checkout(tmp_path)
    command = [sys.executable, "upstream/export.py", str(tree), "--series"]
    new = {}
    for series in export.SERIES:
        said = subprocess.check_output([*command, series], cwd=ROOT, text=True)
        new[series] = set(said.splitlines()[:-1])
        again = subprocess.check_output([*command, series], cwd=ROOT, text=True)
        assert again.startswith("0 files written")
    assert "speechbrain/dataio/sampler.py" in new["losses"]
    assert not any("recipes" in path for path in new["losses"])
    assert not any("CNCeleb" in path for path in new["voxceleb"])
    # The second and third add what is theirs alone.
    assert not new["voxceleb"] & new["losses"]
    assert not new["cnceleb"] & (new["losses"] | new["voxceleb"])
    source = (tree / "speechbrain" / "dataio" / "sampler.py").read_text()
    for once in ("class SpeakerBatchSampler", export.AUTHOR, "\nimport os\n"):
        assert source.count(once) == 1
    readme = (tree / VOXCELEB / "README.md").read_text()
    assert readme.count("## Training with a margin") == 1
    assert readme.startswith("# Theirs\n") and readme.endswith("Theirs\n")


def test_what_differs_is_refused_before_anything_is_written(tmp_path):
    tree = checkout(tmp_path / "tree")
    theirs = tree / "tests" / "unittests" / "test_gradient_balancing.py"
    theirs.parent.mkdir()
    theirs.write_text("# theirs\n")
    before = sorted(tree.rglob("*"))
    command = [sys.executable, "upstream/export.py", "--series", "cnceleb"]
    for folder, message in (
        (tree, "tests/unittests/test_gradient_balancing.py differ"),
        (tmp_path, "no checkout of SpeechBrain"),
    ):
        done = subprocess.run(
            [*command, folder], cwd=ROOT, text=True, capture_output=True
        )
        assert done.returncode == 1 and message in done.stderr
        assert done.stderr.count("\n") == 1 and "error: " in done.stderr
    assert sorted(tree.rglob("*")) == before
    # An anchor of ours is gone there: told, not guessed.
    theirs.unlink()
    (tree / VOXCELEB / "README.md").write_text("# Rewritten\n")
    with pytest.raises(export.CannotExport, match="PLDA"):
        export.planned(tree, "voxceleb")


def test_the_code_is_as_speechbrain_wants_it(tree):
    for path in written(tree):
        text = path.read_text()
        # SpeechBrain's oldest Python
        parsed = ast.parse(text, feature_version=(3, 8))
        assert export.AUTHOR in ast.get_docstring(parsed), path
        assert "speechbrain_scl." not in text and "UserError" not in text
        assert text.count("logger = get_logger") <= 1
        if path.name != "sampler.py":
            assert "scipy" not in text and "hypothesis" not in text
            for node in ast.walk(parsed):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    hidden = node.name.startswith(("_", "test_"))
                    nested = "unittests" in str(path) or node.col_offset
                    assert hidden or nested or ast.get_docstring(node), (
                        f"{path}: {node.name}"
                    )
    settings = ["--config", ROOT / "upstream" / "ruff.toml"]
    for command in (["check"], ["format", "--check"]):
        run(ROOT, "-m", "ruff", *command, *settings, *written(tree))


def rows(tree):
    """All rows of tests/recipes."""
    return [
        row
        for path in sorted((tree / "tests" / "recipes").glob("*.csv"))
        for row in csv.DictReader(path.open())
    ]


def test_every_yaml_has_a_row_and_every_row_its_files(tree):
    found = rows(tree)
    assert {row["Hparam_file"] for row in found} == {
        str(path.relative_to(tree)) for path in tree.glob("recipes/**/*.yaml")
    }
    assert len(found) == 3
    for row in found:
        assert set(row) == set(COLUMNS.strip().split(","))
        for column in row:
            if column.endswith("_file"):
                assert (tree / row[column]).exists(), row[column]
        text = (tree / row["Hparam_file"]).read_text()
        keys = {key.value for key, _ in yaml.compose(text).value}
        flags = re.findall(r"--(\w+)=", row["test_debug_flags"])
        assert flags and set(flags) <= keys
        readme = (tree / row["Readme_file"]).read_text()
        assert os.path.basename(row["Script_file"]) in readme
        assert os.path.basename(row["Hparam_file"]) in readme
    readme = (tree / CNCELEB / "README.md").read_text()
    for needed in ("About SpeechBrain", "Citing SpeechBrain", "not yet run"):
        assert needed in readme


def test_every_key_has_a_reader(tree):
    """SpeechBrain's rule: a key is referred to, or read by the script."""
    for row in rows(tree):
        text = (tree / row["Hparam_file"]).read_text()
        script = (tree / row["Script_file"]).read_text()
        for key, value in yaml.compose(text).value:
            name = key.value
            read = (
                any(
                    q in script for q in (f'["{name}"]', f'"{name}" in hparams')
                )
                or f"hparams.{name}" in script
                or f"modules.{name}" in script
                or f"<{name}>" in text
                or name in RunOptions().as_dict()
                or "!apply" in (value.tag or "")
            )
            assert read, f"{row['Hparam_file']}: {name}"


@pytest.mark.parametrize("python", ["this one", "the oldest"])
def test_the_exported_tests_and_examples_pass(tree, python):
    oldest = os.environ.get("OLDEST_PYTHON")
    if python == "the oldest" and not oldest:
        pytest.skip("OLDEST_PYTHON names no environment")
    said = run(
        tree,
        *["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull],
        *["--rootdir", tree, "--doctest-modules", "tests/unittests"],
        "speechbrain/nnet/loss/supcon_margin_loss.py",
        "speechbrain/nnet/loss/gradient_balancing.py",
        "speechbrain/dataio/sampler.py",
        python=oldest if python == "the oldest" else sys.executable,
    )
    assert " passed" in said and "skipped" not in said


LOSSES = ROOT / "upstream" / "losses"
THEIRS = load(LOSSES / "speechbrain/nnet/loss/supcon_margin_loss.py")
BALANCING = load(LOSSES / "speechbrain/nnet/loss/gradient_balancing.py")
SAMPLER = load(LOSSES / "speaker_batch_sampler.py")


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_loss_and_attention_are_the_packages(margin):
    torch.manual_seed(0)
    labels = torch.randint(0, 8, (24,))
    classes = torch.randn(8, 16)
    embeddings = [torch.randn(24, 16, requires_grad=True) for _ in range(2)]
    embeddings[1].data.copy_(embeddings[0].data)
    attention = ClassAwareAttention(scale=10.0)(embeddings[0], labels, classes)
    torch.testing.assert_close(
        THEIRS.ClassAwareAttention(10.0)(embeddings[0], labels, classes),
        attention,
    )
    options = {"margin": margin, "temperature": 0.2}
    ours = SupConMarginLoss(**options)(embeddings[0], labels, attention)
    theirs = THEIRS.SupConMarginLoss(**options)(
        embeddings[1], labels, attention
    )
    torch.testing.assert_close(theirs, ours)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(
        embeddings[1].grad, embeddings[0].grad, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("preference", [(1.0, 1.0), (5.0, 1.0)])
@pytest.mark.parametrize("normalize", [True, False])
def test_balancer_is_the_packages(normalize, preference):
    torch.manual_seed(0)
    name = "l2" if normalize else "none"
    for size in (1e-5, 1.0, 1e5):
        z = torch.randn(6, 4, requires_grad=True)
        losses = [z.square().sum() * size, (z * torch.randn(6, 4)).sum()]
        torch.testing.assert_close(
            BALANCING.MinNormBalancer(normalize, preference)(losses, z),
            MinNormBalancer(name, preference)(losses, z),
        )


def test_batches_are_the_packages():
    speakers = [str(s) for s in range(9) for _ in range(1 + s % 5)]
    options = {"seed": 3, "processes": 2}
    ours, theirs = (
        which(speakers, 4, 2, **options)
        for which in (SpeakerBatchSampler, SAMPLER.SpeakerBatchSampler)
    )
    for epoch in range(3):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)


TINY = [
    "--embedding_model={channels: [8, 8, 8, 8, 24], attention_channels: 8}",
    "--device=cpu",
]


@pytest.fixture(scope="module")
def trained_upstream(tree, cnceleb, tmp_path_factory):
    """CN-Celeb's recipe: prepared and trained through the links."""
    output = tmp_path_factory.mktemp("upstream")
    annotation = output / "noise.csv"
    sound = next(cnceleb.rglob("*-enroll.flac"))
    annotation.write_text(
        f"ID,duration,wav,wav_format,wav_opts\nx,1.0,{sound},flac,\n"
    )
    hparams = tree / CNCELEB / "hparams" / "train_ecapa_tdnn_scl.yaml"
    # Its downloads are not for a test.
    text = re.sub(
        r"(?m)^(prepare_\w+_data): .*\n(    .*\n)+",
        r"\1: !name:builtins.dict\n",
        hparams.read_text(),
    )
    small = output / "small.yaml"
    small.write_text(text)
    run(
        tree,
        tree / CNCELEB / export.SCRIPT,
        small,
        *TINY,
        f"--data_folder={cnceleb}",
        f"--output_folder={output / 'run'}",
        f"--noise_annotation={annotation}",
        f"--rir_annotation={annotation}",
        "--number_of_epochs=1",
        "--sentence_len=0.5",
        "--speakers_per_batch=3",
        "--num_workers=0",
        "--out_n_neurons=6",
        "--prepare_options={split_ratio: [60, 40]}",
    )
    return output / "run"


def test_cnceleb_is_prepared_and_trained_on(trained_upstream, cnceleb):
    log = (trained_upstream / "train_log.txt").read_text()
    for name in ("classification", "contrast_weight", "attention"):
        assert f"train {name}: " in log or f"{name}: " in log
    assert (trained_upstream / "save" / "embedding_model.ckpt").is_file()
    found = {}
    for split in ("train", "dev"):
        with open(trained_upstream / "save" / f"{split}.csv") as file:
            found[split] = list(csv.DictReader(file))
    everything = found["train"] + found["dev"]
    assert len({row["ID"] for row in everything}) == len(everything)
    first = (cnceleb / "CN-Celeb_flac/dev/dev.lst").read_text().split()
    second = os.listdir(cnceleb / "CN-Celeb2_flac/data")
    assert {row["spk_id"] for row in found["train"]} == {*first, *second}
    # Joined where short, and nothing lost: the files' own seconds
    assert any("joined" in row["wav"] for row in everything)
    load_info = speechbrain.dataio.audio_io.info
    seconds = sum(
        load_info(str(path)).frames / 16000
        for folder in ("CN-Celeb_flac", "CN-Celeb2_flac")
        for path in (cnceleb / folder / "data").rglob("*.flac")
        if path.parent.name in {*first, *second}
    )
    total = sum(float(row["duration"]) for row in everything)
    assert total == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize("enrolment", ["avg", "concat"])
def test_cnceleb_is_verified_by_both_conventions(
    tree, trained_upstream, cnceleb, tmp_path, enrolment
):
    said = run(
        tree,
        tree / CNCELEB / "speaker_verification_cosine.py",
        tree / CNCELEB / "hparams" / "verification_ecapa_scl.yaml",
        *TINY,
        f"--data_folder={cnceleb}",
        f"--output_folder={tmp_path}",
        f"--pretrain_path={trained_upstream / 'save'}",
        f"--enrolment={enrolment}",
        "--dataloader_options={num_workers: 0}",
    )
    trials = (cnceleb / "CN-Celeb_flac/eval/lists/trials.lst").read_text()
    scored = [x.split() for x in (tmp_path / "scores.txt").open()]
    assert [" ".join(x[:3]) for x in scored] == trials.splitlines()
    with open(tmp_path / "save" / "enrol.csv") as file:
        enrolled = [row["spk_id"] for row in csv.DictReader(file)]
    assert (len(enrolled) > len(set(enrolled))) == (enrolment == "avg")
    # What the log says is what SpeechBrain's metrics say of the scores.
    log = (tmp_path / "log.txt").read_text()
    assert log.count("EER(%)=") == 1 and "EER(%)=" in said + log
    logged = [
        float(re.search(pattern, log)[1])
        for pattern in (r"EER\(%\)=([\d.]+)", r"minDCF=([\d.]+)")
    ]
    same, other = (
        torch.tensor([float(x[3]) for x in scored if x[2] == label])
        for label in "10"
    )
    assert logged[0] / 100 == pytest.approx(EER(same, other)[0], abs=1e-4)
    assert logged[1] / 100 == pytest.approx(minDCF(same, other)[0], abs=1e-4)


def test_error_rates_are_speechbrains(tree, monkeypatch):
    monkeypatch.syspath_prepend(str(tree / CNCELEB))
    script = load(tree / CNCELEB / "speaker_verification_cosine.py")
    torch.manual_seed(0)
    for decimals in (1, 2, 6):  # with ties and without
        labels = torch.arange(400) % 5 == 0
        scores = (torch.randn(400) + 1.5 * labels).round(decimals=decimals)
        eer, cost = script.error_rates(scores, labels.long(), p_target=0.01)
        same, other = scores[labels], scores[~labels]
        assert eer == pytest.approx(EER(same, other)[0], abs=1e-6)
        assert cost * 0.01 == pytest.approx(minDCF(same, other)[0], abs=1e-6)


def contributing():
    """The commands of CONTRIBUTING's section on this."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## The pull requests against SpeechBrain")[1]
    return re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]


def test_contributing_names_every_series_and_text():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for series in export.SERIES:
        assert f"`upstream/{series}.md`" in text
        assert (ROOT / "upstream" / f"{series}.md").is_file()
    assert "export.py build/speechbrain --series losses" in contributing()


@pytest.mark.skipif(
    "SPEECHBRAIN_CHECKOUT" not in os.environ, reason="no checkout is given"
)
@pytest.mark.parametrize("series", export.SERIES)
def test_contributings_commands(series, tmp_path):
    commands = contributing()
    given = os.path.abspath(os.environ["SPEECHBRAIN_CHECKOUT"])
    for old, new in (
        ("--branch develop https://github.com/speechbrain/speechbrain", given),
        ("--series losses", f"--series {series}"),
        ("upstream/export.py", str(ROOT / "upstream" / "export.py")),
    ):
        assert commands.count(old) == 1
        commands = commands.replace(old, new)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
