"""Every command of the documents runs.

Bash itself says what a block would run: stand-ins for python and the others
write down folder and arguments. Those are then run here, with options behind
them that make the work small. The tutorial's blocks run as the cells of its
notebook.
"""

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys

import nbclient
import nbformat
import pytest
from commands import ROOT, TINY

from speechbrain_scl.command_line.main import main
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest

VOXCELEB = "recipes/VoxCeleb/SpeakerRec"
CNCELEB = "recipes/CNCeleb/SpeakerRec"
TIDYVOICE = "recipes/TidyVoice/SpeakerRec"
TRAIN = "train_speaker_embeddings.py"
COSINE = "speaker_verification_cosine.py"
# In the order in which they lean on each other's results
DOCUMENTS = {
    "README.md": ".",
    f"{VOXCELEB}/README.md": VOXCELEB,
    f"{CNCELEB}/README.md": CNCELEB,
    f"{TIDYVOICE}/README.md": TIDYVOICE,
    "docs/recordings.md": ".",
    "docs/training.md": ".",
    "docs/variants.md": VOXCELEB,
}
# Installing and testing is what the run of the tests itself does; a step on
# CUDA needs CUDA, the default model a network; the slow export is run by
# tests/release/test_hub.py, calibrate by tests/command_line/test_calibrating.py.
ELSEWHERE = [
    "make",
    "pip",
    "pytest",
    "python -m venv",
    "python ../../../benchmarks/step.py",
    "speechbrain-scl export",
    "speechbrain-scl calibrate",
    "speechbrain-scl verify a.wav",
]
LIST = "trials-same-language.txt"
STAND_IN = """#!{python} -S
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    name = os.path.basename(sys.argv[0])
    file.write(json.dumps([name, os.getcwd(), sys.argv[1:]]) + "\\n")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of what the commands touch, and the data they name."""
    place = tmp_path_factory.mktemp("copy") / "place"
    main(["init", str(place)])
    shutil.copytree(ROOT / "benchmarks", place / "benchmarks")
    (place / "bin").mkdir()
    names = {line.split()[0] for line in ELSEWHERE}
    for name in names | {"python", "python3", "speechbrain-scl"}:
        path = place / "bin" / name
        path.write_text(STAND_IN.format(python=sys.executable))
        path.chmod(0o755)
    return place


@pytest.fixture
def environment(place):
    """The shell's: the stand-ins come first."""
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CALLS": str(place / "calls")}


@pytest.fixture
def perform(place, corpus, cnceleb, tidyvoice, run_warm, monkeypatch):
    """Runs what the stand-ins wrote down, as the module says."""
    waves = sorted((corpus / "wav").rglob("*.wav"))
    model = place / VOXCELEB / "results/ecapa_scl/1986/inference"
    # What stands for a path or a name in the documents
    named = {
        "/path/to/VoxCeleb1": corpus,
        "/path/to/CNCeleb": cnceleb,
        "/path/to/TidyVoice": tidyvoice,
        "/path/to/corpus": corpus,
        # The VoxCeleb recipe's own model has the sizes of this one.
        "speechbrain/spkrec-ecapa-voxceleb": model,
        "RECORDINGS": corpus / "wav",
        "NOISE": corpus / "noise",
        "ROOMS": corpus / "rir",
        "MODEL": model,
    }
    names = "|".join(rf"{re.escape(name)}(?![\w-])" for name in named)
    sounds = [f"--data_folder_{k}={corpus / k}" for k in ("noise", "rir")]

    def shrunk(arguments):
        """The arguments with smaller work behind them."""
        arguments = [
            re.sub(names, lambda found: str(named[found[0]]), argument)
            for argument in arguments
        ]
        script, extra = os.path.basename(arguments[0]), []
        if script in (TRAIN, COSINE) and f"--data_folder={corpus}" in arguments:
            extra.append(f"--verification_file={corpus}/{LIST}")
        if script == TRAIN:
            extra += TINY
            if "_folder_noise" not in str(arguments):
                extra += sounds
            if CNCELEB in os.getcwd():
                extra.append("--strict=False")
        elif script == COSINE:
            extra += ["--bootstrap=2", "--pack_seconds=4"]
        elif script == "ladder.py":
            extra = [*([] if "--" in arguments else ["--"]), *TINY]
        elif arguments[:2] == ["-m", "demo.mini"]:
            extra = ["--n-train=10", "--n-test=8"]
            extra.append("--utterances-per-language=1")
        return arguments + extra

    def start(name, folder, arguments):
        """A command, in a process that has its imports or in this one."""
        os.makedirs(folder, exist_ok=True)
        monkeypatch.chdir(folder)
        for i, wave in enumerate(("a.wav", "b.wav", "test.wav")):
            if not os.path.exists(wave):
                shutil.copy(waves[i], wave)
        if (model.parent / "verification").exists():
            shutil.copy(model.parent / "verification/metrics.json", ".")
            key = folder_digest(model)
            Calibration(20.0, -8.0, 0.01, 9, key).save("calibration.json")
        arguments = shrunk(arguments)
        if name == "speechbrain-scl":
            main(arguments)
        elif arguments[0] == "-c":
            exec(arguments[1], {})  # noqa: S102
        elif arguments[0] == "-m":
            script = importlib.util.find_spec(arguments[1]).origin
            run_warm(script, *arguments[2:], folder=folder)
        else:
            run_warm(*arguments, folder=folder)

    def perform():
        lines = (place / "calls").read_text().splitlines()
        (place / "calls").unlink()
        for name, folder, arguments in map(json.loads, lines):
            said = " ".join([name.removesuffix("3"), *arguments])
            if not said.startswith(tuple(ELSEWHERE)):
                start(name, folder, arguments)

    return perform


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_run(document, place, environment, perform, monkeypatch):
    text = (ROOT / document).read_text(encoding="utf-8")
    folder = place / DOCUMENTS[document]
    blocks = re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)
    assert blocks
    names, at = {}, folder
    for language, content in blocks:
        if language == "python":
            # That of recordings is run by tests/test_repository.py.
            # A fragment of a call: tests/upstream/test_stock_recipe.py
            if document != "docs/recordings.md" and content[0] != " ":
                monkeypatch.chdir(at)
                exec(content, names)  # noqa: S102
            continue
        at = folder
        if "../../../" in content and not content.startswith("cd recipes"):
            at = place / (CNCELEB if CNCELEB in document else VOXCELEB)
        if "demo.mini_cnceleb" in content:
            at = place
        content = content.replace(". .venv/bin/activate\n", "")
        command = ["bash", "-euc", content]
        subprocess.run(command, cwd=at, env=environment, check=True)
        perform()


def test_the_notebook_is_the_tutorial_and_runs(place, environment, perform):
    """Cell by cell: Python in its kernel, the commands by their stand-ins."""
    docs = ROOT / "docs"
    script = runpy.run_path(str(docs / "notebook.py"))
    book = nbformat.read(docs / "tutorial.ipynb", as_version=4)
    said = str([cell.pop("outputs", []) for cell in book.cells])
    assert str(ROOT) not in said and "validation EER" in said
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert book == script["notebook"](), "run python docs/notebook.py"
    (place / "docs").mkdir(exist_ok=True)
    client = nbclient.NotebookClient(book, timeout=300)
    with client.setup_kernel(cwd=str(place / "docs"), env=environment):
        for i, cell in enumerate(book.cells):
            client.execute_cell(cell, i)
            if cell.source.startswith("%%bash"):
                perform()
    said = str([cell.get("outputs") for cell in book.cells])
    assert re.search(r"['\"]cosine -?[01]\.\d{3}", said)
