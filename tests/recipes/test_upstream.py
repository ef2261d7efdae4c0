"""The pull request: SpeechBrain's own rules, and that it runs."""

import ast
import csv
import os
import re
import subprocess
import sys

import pytest
import torch
import yaml
from commands import ROOT

from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.utils.run_opts import RunOptions

sys.path.insert(0, str(ROOT / "upstream"))
import bundle  # noqa: E402
import export  # noqa: E402

TINY = [
    "--embedding_model={channels: [8, 8, 8, 8, 24], attention_channels: 8}",
    "--num_workers=0",
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Exported into a folder that has what SpeechBrain's has."""
    tree = tmp_path_factory.mktemp("speechbrain")
    readme = tree / export.VOXCELEB / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# Speaker recognition")
    (readme.parent / "voxceleb_prepare.py").write_text(
        '"""Theirs."""\n\n\ndef prepare_voxceleb(\n'
        "    data_folder,\n    save_folder,\n    verification_pairs_file,\n"
        "    splits,\n    split_ratio,\n    split_speaker,\n"
        '    random_segment,\n    skip_prep,\n):\n    """Of SpeechBrain."""\n'
        "    assert skip_prep\n"
    )
    (readme.parent / "hparams").mkdir()
    rows = tree / "tests" / "recipes" / "VoxCeleb.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text(",".join(export.COLUMNS) + "\n")
    export.export(tree)
    return tree


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory):
    """Python with SpeechBrain and the tree's modules, and nothing of ours."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(
        "import sys, speechbrain, speechbrain.nnet.loss\n"
        "import speechbrain.utils, speechbrain.dataio\n"
        "for m in (speechbrain.nnet.loss, speechbrain.nnet,"
        " speechbrain.utils, speechbrain.dataio):\n"
        f"    m.__path__.append({str(tree)!r} + '/'"
        " + m.__name__.replace('.', '/'))\n"
        "sys.modules['speechbrain_scl'] = None\n"
    )

    def start(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    return start


def files(tree, ending):
    """What the tree has of a kind, without links."""
    return [p for p in sorted(tree.rglob(f"*{ending}")) if not p.is_symlink()]


def test_nothing_of_this_package_is_left(tree):
    for path in tree.rglob("*.*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "speechbrain_scl" not in text, path
            assert "UserError" not in text and "@" + "PREPARE" not in text


def test_the_code_is_as_speechbrain_wants_it(tree):
    for path in files(tree, ".py"):
        # SpeechBrain's oldest Python
        parsed = ast.parse(path.read_text(), feature_version=(3, 8))
        assert ast.get_docstring(parsed)
        for node in ast.walk(parsed):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                nested = not node.name.startswith("_")
                if nested and "speechbrain/" in str(path.relative_to(tree)):
                    assert ast.get_docstring(node), f"{path}: {node.name}"
    for command in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config"]
            + [ROOT / "pyproject.toml", "--target-version", "py38", tree],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    subprocess.run(
        [sys.executable, "-m", "yamllint", "--no-warnings", "-c"]
        + [ROOT / ".yamllint.yaml", *files(tree, "scl.yaml")],
        check=True,
    )


def rows(tree):
    """All rows of tests/recipes."""
    return [
        row
        for path in files(tree / "tests" / "recipes", ".csv")
        for row in csv.DictReader(path.open())
    ]


def test_every_yaml_has_a_row_and_every_row_its_files(tree):
    found = rows(tree)
    listed = {row["Hparam_file"] for row in found}
    assert {
        str(p.relative_to(tree)) for p in files(tree, "_scl.yaml")
    } == listed
    for row in found:
        for column in export.COLUMNS:
            if column.endswith("_file"):
                assert (tree / row[column]).exists(), row[column]
        text = (tree / row["Hparam_file"]).read_text()
        keys = {key.value for key, _ in yaml.compose(text).value}
        flags = re.findall(r"--(\w+)=", row["test_debug_flags"])
        assert flags and set(flags) <= keys
        readme = (tree / row["Readme_file"]).read_text()
        assert os.path.basename(row["Script_file"]) in readme
        assert os.path.basename(row["Hparam_file"]) in readme
    assert len(found) == 3
    readme = (tree / export.VOXCELEB / "README.md").read_text()
    assert readme.startswith("# Speaker recognition\n")


def test_every_key_has_a_reader(tree):
    """SpeechBrain's rule: a key is referred to, or read by the script."""
    for row in rows(tree):
        text = (tree / row["Hparam_file"]).read_text()
        script = (tree / row["Script_file"]).read_text()
        for key, value in yaml.compose(text).value:
            name = key.value
            read = (
                f'["{name}"]' in script
                or f"hparams.{name}" in script
                or f"modules.{name}" in script
                or f"<{name}>" in text
                or name in RunOptions().as_dict()
                or "!apply" in (value.tag or "")
            )
            assert read, f"{row['Hparam_file']}: {name}"


def test_the_examples_run(tree, run):
    modules = [
        *files(tree / "speechbrain", ".py"),
        tree / "recipes/CNCeleb/cnceleb_prepare.py",
    ]
    said = run(
        *["-m", "pytest", "-q", "--doctest-modules", "-p", "no:cacheprovider"],
        *["--import-mode=importlib", "--rootdir", tree],
        *["-o", "doctest_optionflags=NORMALIZE_WHITESPACE ELLIPSIS", *modules],
    )
    assert "passed" in said


def test_it_trains_and_verifies(tree, run, trained, corpus, tmp_path):
    """Both recipes' scripts, on manifests that are there."""
    save = trained / "save"
    made = {}
    for row in rows(tree):
        if "train" not in row["Script_file"]:
            continue
        output = tmp_path / row["Dataset"]
        run(
            tree / row["Script_file"],
            tree / row["Hparam_file"],
            *TINY,
            f"--data_folder={corpus}",
            f"--output_folder={output}",
            f"--train_annotation={save / 'train.csv'}",
            f"--valid_annotation={save / 'valid.csv'}",
            f"--noise_annotation={save / 'noise.csv'}",
            f"--rir_annotation={save / 'rir.csv'}",
            "--skip_prep=True",
            "--number_of_epochs=1",
            "--sentence_len=0.5",
            "--valid_len=0.5",
            "--speakers_per_batch=4",
        )
        log = (output / "train_log.txt").read_text()
        assert "weight_contrastive" in log and "valid EER" in log
        made[row["Dataset"]] = torch.load(
            output / "save" / "embedding_model.ckpt", weights_only=True
        )
    assert set(made) == {"VoxCeleb", "CNCeleb"}
    encoder = ECAPA_TDNN(
        80, channels=[8, 8, 8, 8, 24], attention_channels=8, lin_neurons=192
    )
    encoder.load_state_dict(made["CNCeleb"])

    speakers = sorted(p.name for p in (corpus / "wav").iterdir())[:2]
    names = {
        speaker: [
            str(p.relative_to(corpus / "wav"))
            for p in sorted((corpus / "wav" / speaker).rglob("*.wav"))
        ]
        for speaker in speakers
    }
    (tmp_path / "enroll.map").write_text(
        "".join(f"{s} {' '.join(names[s][:2])}\n" for s in speakers)
    )
    (tmp_path / "trials.lst").write_text(
        "".join(
            f"{model} {names[speaker][0]} {int(model == speaker)}\n"
            for model in speakers
            for speaker in speakers
        )
    )
    said = run(
        tree / export.CNCELEB / "speaker_verification_cosine.py",
        tree / export.CNCELEB / "hparams" / "verification_ecapa_scl.yaml",
        TINY[0],
        f"--data_folder={corpus / 'wav'}",
        f"--verification_file={tmp_path / 'trials.lst'}",
        f"--enrolment_map={tmp_path / 'enroll.map'}",
        f"--pretrain_path={tmp_path / 'CNCeleb' / 'save'}",
        f"--output_folder={tmp_path / 'verified'}",
    )
    assert re.search(r"EER \d+\.\d\d %, minDCF", said)
    scored = (tmp_path / "verified" / "scores.txt").read_text().splitlines()
    assert len(scored) == 4 and scored[0].split()[2] == "1"


def test_nothing_of_theirs_is_replaced(tree):
    before = (tree / "tests/recipes/VoxCeleb.csv").read_text()
    with pytest.raises(FileExistsError, match="supcon_margin.py"):
        export.export(tree)
    assert (tree / "tests/recipes/VoxCeleb.csv").read_text() == before


def test_two_definitions_of_one_name_are_told(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.py").write_text(
            f"_N = {value}\n\n\ndef {name}():\n    return _N\n"
        )
    script = (
        '"""Both."""\n\nfrom speechbrain_scl.a import a\n'
        "from speechbrain_scl.b import b\n\nprint(a(), b())\n"
    )
    with pytest.raises(ValueError, match="_N: defined twice"):
        bundle.bundle(script, tmp_path, {})
    (tmp_path / "b.py").write_text(
        "from speechbrain_scl.a import a\n\n\ndef b():\n    return a()\n"
    )
    text = bundle.bundle(script, tmp_path, {})
    assert text.count("_N = 1") == 1 and "import" not in text
