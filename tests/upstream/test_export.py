"""What is exported: each series once, by SpeechBrain's own rules."""

import ast
import sys

import pytest
import yaml
from commands import ROOT
from upstream_tree import (
    CNCELEB,
    GIVEN,
    PURE,
    VOXCELEB,
    checkout,
    export,
    needs_recipes,
    run,
)


def contents(tree):
    """What is where."""
    files = (path for path in tree.rglob("*") if path.is_file())
    return {str(p.relative_to(tree)): p.read_bytes() for p in files}


def test_a_series_is_written_once_or_not_at_all(tmp_path, monkeypatch, capsys):
    tree = checkout(tmp_path / "tree")
    command = ["export.py", str(tree), "--author=A B 2026", "--series"]

    def refused(*series):
        before = contents(tree)
        monkeypatch.setattr(sys, "argv", [*command, *series])
        with pytest.raises(SystemExit) as error:
            export.main()
        assert contents(tree) == before
        return str(error.value)

    before = contents(tree)
    monkeypatch.setattr(sys, "argv", [*command, "metrics", "sampler"])
    export.main()
    assert "written" in capsys.readouterr().out
    after = contents(tree)
    assert {path for path in after if before.get(path) != after[path]} == {
        "speechbrain/dataio/sampler.py",
        "speechbrain/utils/metric_stats.py",
        "tests/unittests/test_speaker_batch_sampler.py",
        "tests/unittests/test_verification_metrics.py",
    }
    assert "test_verification_metrics.py already" in refused("metrics")
    # What builds on another series does not fit without it.
    assert "No such file" in refused("cnceleb")
    if GIVEN:  # SpeechBrain's file has changed.
        script = tree / VOXCELEB / "train_speaker_embeddings.py"
        text = script.read_text()
        script.write_text(text.replace("return outputs, lens", "return lens"))
        assert "voxceleb.patch: error: patch failed" in refused("voxceleb")
    (tree / "speechbrain" / "core.py").unlink()
    assert "no checkout of SpeechBrain" in refused("sampler")


def test_the_code_is_as_speechbrain_wants_it(tree):
    series = export.SERIES if GIVEN else PURE
    added = [tree / path for s in series for path in export.new_files(s)]
    edited = [
        tree / "speechbrain" / "dataio" / "sampler.py",
        tree / "speechbrain" / "utils" / "metric_stats.py",
        *(tree / VOXCELEB).glob("*train_speaker_embeddings.py"),
        *(tree / VOXCELEB).glob("*verification_cosine.py"),
    ]
    paths = [p for p in (*added, *edited) if p.suffix == ".py"]
    for path in paths:
        text = path.read_text()
        # SpeechBrain's oldest Python
        parsed = ast.parse(text, feature_version=(3, 8))
        assert path.is_symlink() or "Ada Lovelace" in ast.get_docstring(parsed)
        assert "speechbrain_scl." not in text and "UserError" not in text
    settings = ["--config", ROOT / "upstream" / "ruff.toml"]
    for command in (["check"], ["format", "--check"]):
        run(ROOT, "-m", "ruff", *command, *settings, *paths)


def plain_keys(path):
    """The yaml's scalars and lists by their dotted names, as written."""

    def walk(node, name):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from walk(value, f"{name}.{key.value}".strip("."))
        elif isinstance(node, yaml.SequenceNode):
            yield name, [part.value for part in node.value]
        else:
            yield name, node.value

    return dict(walk(yaml.compose(path.read_text()), ""))


SETTINGS = """
objective.contrastive.margin=contrastive_loss.margin
objective.contrastive.temperature=contrastive_loss.temperature
objective.attention.scale=attention.scale
objective.balancer.normalize=balancer.normalize
objective.balancer.preference=balancer.preference
aam_margin=compute_cost.loss_fn.margin aam_scale=compute_cost.loss_fn.scale
sentence_len speakers_per_batch utterances_per_speaker sample_rate n_mels
embedding_model.channels wav_augment.max_augmentations add_noise.snr_high
"""


@needs_recipes
@pytest.mark.parametrize("recipe", [VOXCELEB, CNCELEB])
def test_the_settings_of_the_method_are_this_packages(tree, recipe):
    ours = plain_keys(ROOT / recipe / "hparams" / "ecapa_scl.yaml")
    path = "hparams/train_ecapa_tdnn_supcon_margin.yaml"
    theirs = plain_keys(tree / recipe / path)
    for setting in SETTINGS.split():
        name, _, renamed = setting.partition("=")
        assert theirs[renamed or name] == ours[name], name


@needs_recipes
def test_the_baseline_differs_in_the_loss_alone(tree):
    folder = tree / VOXCELEB / "hparams"
    baseline, contrast = (
        plain_keys(folder / f"train_ecapa_tdnn_{name}.yaml")
        for name in ("speaker_batches", "supcon_margin")
    )
    assert baseline.pop("output_folder") != contrast.pop("output_folder")
    new = set(contrast) - set(baseline)
    parts = {name.split(".")[0] for name in new}
    assert parts == {"contrastive_loss", "attention", "balancer"}
    assert all(contrast[name] == baseline[name] for name in baseline)
