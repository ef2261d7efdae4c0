"""Rules a recipe has to keep, and a README that is true."""

import io
import re
import shutil
from pathlib import Path

import pytest
import yaml
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYOUT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
VOXCELEB = ROOT / "recipes" / "VoxCeleb" / "SpeakerRec"
RECIPE = "recipes/*/SpeakerRec/hparams"


def test_the_pages_python_runs(untrained, spoken, tmp_path, monkeypatch):
    pages = ["README.md"]
    pages += [f"docs/{p}.md" for p in ("method", "recordings", "verification")]
    text = "".join((ROOT / p).read_text(encoding="utf-8") for p in pages)
    loop, swap, _, parts, verifier, evaluation = re.findall(
        r"```python\n(.*?)```", text, re.DOTALL
    )
    assert "SpeakerBrain" in swap  # tests/recipes/test_drop_in.py
    names = {}
    exec(loop, names)  # noqa: S102
    assert {"classification", "contrastive"} < set(names["objective"].log)
    exec(evaluation, names)  # noqa: S102
    assert 0 <= names["rate"] <= 1 and 0 <= names["cost"] <= 1
    exec(parts, names)  # noqa: S102
    assert names["embeddings"].grad.isfinite().all()
    assert names["weights"].sum().item() == pytest.approx(1)
    monkeypatch.chdir(tmp_path)
    for name, path in zip(("a.wav", "b.wav"), spoken):
        shutil.copy(path, name)
    exec(verifier, names)  # noqa: S102
    assert names["greet"](untrained, "b.wav") == "ann"


def test_the_readmes_paths_exist():
    named = re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", README + LAYOUT)
    assert len(named) > 5
    for path in named:
        if not path.startswith(("results/", "data/", "CORPUS/", "save/")):
            assert (ROOT / path).exists(), path
    for corpus in ("VoxCeleb", "CNCeleb", "TidyVoice"):
        name = f"{corpus.lower()}_prepare.py"
        link = ROOT / "recipes" / corpus / "SpeakerRec" / name
        assert link.readlink() == Path(f"../{name}")  # SpeechBrain's convention


@pytest.mark.parametrize(
    "path", [*ROOT.glob("hparams/*_small.yaml"), *ROOT.glob(f"{RECIPE}/*.yaml")]
)
def test_every_key_has_a_reader(path):
    """SpeechBrain's rule: used in the script, the Brain, or by reference."""
    if path.name.startswith("verification"):
        script = "speaker_verification_cosine.py"
        modules = ["evaluation/verification", "evaluation/backends"]
    else:
        script = "train_speaker_embeddings.py"
        modules = ["brain", "data/augmentation", "training/data"]
        modules.append("training/run")
    recipe = path.parents[1] if "recipes" in path.parts else VOXCELEB
    readers = [recipe / script]
    readers += [ROOT / "speechbrain_scl" / f"{m}.py" for m in modules]
    read = "".join(reader.read_text(encoding="utf-8") for reader in readers)
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for key, _ in yaml.compose(text).value:
        name = key.value
        assert (
            f"<{name}>" in text
            or f"hparams.{name}" in read
            or f'"{name}"' in read
            or name == "ckpt_interval_minutes"  # SpeechBrain's Brain's
            or name.startswith("__")
        ), name


@pytest.mark.filterwarnings("ignore")  # of its extensions' old names
def test_the_reference_is_complete(tmp_path):
    """Sphinx reads every docstring and page without a warning."""
    pages = shutil.copytree(
        ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("api")
    )
    # What the pages include
    for name in ("speechbrain_scl", "recipes", "README.md", "RESULTS.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = io.StringIO()
    app = Sphinx(
        *(pages, pages, tmp_path / "html", tmp_path / "trees", "html"),
        # Its own theme is a third of the time, and no more is read of it.
        confoverrides={"html_theme": "basic"},
        status=None,
        warning=said,
    )
    app.build()
    assert said.getvalue() == ""
    for path in (ROOT / "speechbrain_scl").rglob("*.py"):
        module = path.relative_to(ROOT).with_suffix("").as_posix()
        if not path.name.startswith("_"):  # private modules have no page
            name = module.replace("/", ".")
            page = (tmp_path / "html" / "api" / f"{name}.html").read_text()
            assert f'id="module-{name}"' in page
            if name == "speechbrain_scl.losses":  # Arguments are understood
                assert ">Parameters<" in page and ">Raises<" in page
