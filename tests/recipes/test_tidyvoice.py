"""TidyVoice's recipe on a tree in its layout."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from commands import ROOT, TINY, read_rows

from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import eer
from speechbrain_scl.evaluation.trials import read_trials

sys.path.insert(0, str(ROOT / "recipes" / "TidyVoice"))
from tidyvoice_prepare import prepare_tidyvoice  # noqa: E402

RECIPE = ROOT / "recipes" / "TidyVoice" / "SpeakerRec"


def prepare(tidyvoice, save, **options):
    listed = str(tidyvoice / "TidyVoiceX_Dev.txt")
    options = {"valid_speakers": 2, **options}
    return prepare_tidyvoice(str(tidyvoice), str(save), listed, **options)


def test_training_is_of_the_training_folder(tidyvoice, tmp_path):
    counts = prepare(tidyvoice, tmp_path)
    assert counts["train"]["speakers"] == 4
    assert counts["valid"]["speakers"] == 2
    rows = read_rows(tmp_path / "train.csv") + read_rows(tmp_path / "valid.csv")
    assert len(rows) == len(list(tidyvoice.glob("TidyVoiceX_Train/*/*/*.wav")))
    for row in rows:
        assert row["wav"].split("/")[-2] == row["language"]
        assert "TidyVoiceX_Train" in row["wav"]
    spoken = {(row["spk_id"], row["language"]) for row in rows}
    assert len(spoken) == 2 * 6  # two languages each
    trials = read_trials(str(tidyvoice / "TidyVoiceX_Dev.txt"))
    tested = read_rows(tmp_path / "dev.csv")
    assert {row["path"] for row in tested} == {
        *(*trials.enrol_ids, *trials.test_ids)
    }
    assert all(row["path"].split("/")[1] == row["language"] for row in tested)


@pytest.mark.parametrize(
    "broken, message",
    [
        ("rm -r TidyVoiceX_Dev", "TidyVoiceX_Dev: not there"),
        ("rm TidyVoiceX_Dev.txt", "Dev.txt: there is no such trial list"),
        (
            "printf '1 a/b/1.wav a/c/2.wav\\n0 a/b/1.wav d/b/1.wav\\n' "
            "> TidyVoiceX_Dev.txt",
            "3 of 3",
        ),
        (
            "cd TidyVoiceX_Dev; set -- *; "
            "cp -r $1 ../TidyVoiceX_Train/$(echo $1 | tr a-z A-Z)",
            "1 training speakers are in",
        ),
    ],
)
def test_a_wrong_tree_is_told(tidyvoice, tmp_path, broken, message):
    copy = tmp_path / "copy"
    shutil.copytree(tidyvoice, copy)
    subprocess.run(broken, shell=True, cwd=copy, check=True)
    with pytest.raises(UserError, match=message):
        prepare(copy, tmp_path / "save")


def test_the_readmes_commands(tidyvoice, corpus, run_warm, tmp_path):
    recipe = tmp_path / "TidyVoice" / "SpeakerRec"
    shutil.copytree(RECIPE.parent, recipe.parent)
    text = (RECIPE / "README.md").read_text().replace("\\\n", "")
    text = text.replace("/path/to/TidyVoice", str(tidyvoice))
    blocks = re.findall(r"```bash\npython (.*?)\n```", text, re.DOTALL)
    train, verify, evaluate = map(shlex.split, blocks)
    results = recipe / "results" / "ecapa_scl" / "1986"

    def run(*command, code=0):
        done = run_warm(*command, folder=recipe)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stderr

    run(
        *[*train, *TINY, f"--data_folder_noise={corpus / 'noise'}"],
        f"--data_folder_rir={corpus / 'rir'}",
    )
    run(*verify, "--bootstrap=2")
    found = json.loads((results / "verification/metrics.json").read_text())
    found = found["trials"]["TidyVoiceX_Dev"]["conditions"]
    # The primary figure, computed anew
    scores, labels = [], []
    for line in (results / "verification/scores.txt").read_text().splitlines():
        label, first, second, score = line.split()
        if first.split("/")[1] != second.split("/")[1]:
            scores.append(float(score))
            labels.append(int(label))
    wanted = eer(scores, labels)[0]
    assert found["language: different"]["eer"] == pytest.approx(wanted)
    run(*evaluate, "--bootstrap=2")
    found = json.loads((results / "evaluation/metrics.json").read_text())
    assert set(found["trials"]) == {"tidyvoice_eval1", "tidyvoice_eval2"}
    # Normalisation by speakers that are tested is refused.
    leak = tmp_path / "leak.csv"
    path = next((tidyvoice / "TidyVoiceX_Dev").glob("*/*/*.wav"))
    row = Utterance("a", 1.0, str(path), 0, 16000, path.parts[-3])
    write_manifest(leak, [row])
    for options in (
        [f"--cohort={leak}", "--score_norm=as-norm"],
        [f"--calibration={leak}"],
    ):
        said = run(*verify, *options, code=1)
        assert "of speakers that are tested" in said
