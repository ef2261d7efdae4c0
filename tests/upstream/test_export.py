"""What is exported: by series, once, by SpeechBrain's own rules."""

import ast
import csv
import os
import re
import subprocess
import sys

import pytest
import yaml
from commands import ROOT
from upstream_tree import (
    CNCELEB,
    COLUMNS,
    VOXCELEB,
    checkout,
    export,
    run,
    written,
)

from speechbrain.utils.run_opts import RunOptions


def test_series_build_on_each_other_and_are_written_once(tmp_path):
    tree = checkout(tmp_path)
    command = [sys.executable, "upstream/export.py", str(tree), "--series"]
    new = {}
    for series in export.SERIES:
        said = subprocess.check_output([*command, series], cwd=ROOT, text=True)
        new[series] = set(said.splitlines()[:-1])
        again = subprocess.check_output([*command, series], cwd=ROOT, text=True)
        assert again.startswith("0 files written")
    assert "speechbrain/dataio/sampler.py" in new["sampler"]
    assert set(export.PIECES.values()) < new["losses"]
    assert not any("recipes" in path for path in new["losses"])
    assert not any("CNCeleb" in path for path in new["voxceleb"])
    assert "speechbrain/utils/metric_stats.py" in new["metrics"]
    # Each adds what is theirs alone.
    assert not new["losses"] & new["sampler"]
    assert not new["voxceleb"] & new["losses"]
    assert not new["cnceleb"] & (new["losses"] | new["voxceleb"])
    source = (tree / "speechbrain" / "dataio" / "sampler.py").read_text()
    for once in ("class SpeakerBatchSampler", export.AUTHOR):
        assert source.count(once) == 1
    readme = (tree / VOXCELEB / "README.md").read_text()
    assert readme.count("## Training with a margin") == 1
    assert readme.startswith("# Theirs\n") and readme.endswith("Theirs\n")
    listed = (
        "[CN-Celeb](recipes/CNCeleb), [VoxCeleb](recipes/VoxCeleb) | Theirs"
    )
    assert listed in (tree / "README.md").read_text()


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


def test_a_setting_is_what_the_recipe_says(tmp_path):
    recipe = tmp_path / "ecapa_scl.yaml"
    recipe.write_text(
        "loss: !new:a.Loss\n    scale: 3\n    course: [5, 1]  # first, last\n"
        "balancer: !new:a.Balancer\n    scale: !ref <scale>\n\nscale: 2\n"
    )
    assert export.setting(recipe, "scale") == "2"
    assert export.setting(recipe, "loss.scale") == "3"
    assert export.setting(recipe, "loss.course") == "[5, 1]"
    for absent in ("balancer.scale", "balancer.course", "other.scale"):
        with pytest.raises(export.CannotExport, match=absent):
            export.setting(recipe, absent)
