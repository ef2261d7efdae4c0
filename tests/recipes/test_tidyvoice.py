"""TidyVoice's recipe on a tree in its layout."""

import json
import shutil
import subprocess

import pytest
from commands import ROOT, read_rows
from tidyvoice_prepare import prepare_tidyvoice

from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import eer
from speechbrain_scl.evaluation.trials import read_trials

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
    named = {*trials.enrol_ids, *trials.test_ids}
    tested = read_rows(tmp_path / "dev.csv")
    assert {row["path"] for row in tested} == named
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


def test_the_primary_figure(tidyvoice, untrained, run_warm, tmp_path):
    prepare(tidyvoice, tmp_path)
    options = {"corpus": tidyvoice, "pretrain_path": untrained, "bootstrap": 2}
    options |= {"output_folder": tmp_path, "metadata": tmp_path / "dev.csv"}
    verify = ["speaker_verification_cosine.py"]
    verify += [f"--{key}={value}" for key, value in options.items()]
    run_warm(*verify, folder=RECIPE)
    found = json.loads((tmp_path / "metrics.json").read_text())
    found = found["trials"]["TidyVoiceX_Dev"]["conditions"]
    scores, labels = [], []
    for line in (tmp_path / "scores.txt").read_text().splitlines():
        label, first, second, score = line.split()
        if first.split("/")[1] != second.split("/")[1]:
            scores.append(float(score))
            labels.append(int(label))
    wanted = eer(scores, labels)[0]
    assert found["language: different"]["eer"] == pytest.approx(wanted)
    # Normalisation by speakers that are tested is refused.
    leak = tmp_path / "leak.csv"
    path = next((tidyvoice / "TidyVoiceX_Dev").glob("*/*/*.wav"))
    row = Utterance("a", 1.0, str(path), 0, 16000, path.parts[-3])
    write_manifest(leak, [row])
    for options in (
        [f"--cohort={leak}", "--score_norm=as-norm"],
        [f"--calibration={leak}"],
    ):
        done = run_warm(*verify, *options, folder=RECIPE, status=1)
        assert "of speakers that are tested" in done.stderr
