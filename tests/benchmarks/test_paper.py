"""The paper's table, from small trainings on the synthesised corpora."""

import sys

import ladder
import paper
import pytest
from commands import ROOT, TINY

from speechbrain_scl.command_line.experiment import read_experiment


def test_corpora_from_training_to_table(
    corpus, cnceleb, tidyvoice, run_warm, tmp_path, monkeypatch, capsys
):
    ran = []

    def script(args, folder, name, hparams, *overrides, recipe, processes=1):
        """As the ladder's own, in a process that has its imports."""
        ran.append(name)
        if name == "train_speaker_embeddings.py" and "CNCeleb" in str(recipe):
            overrides += ("--strict=False", "--joined_duration=0")
        run_warm(name, hparams, *overrides, folder=recipe)

    def make(top_n):
        noise = [f"--data_folder_{k}={corpus / k}" for k in ("noise", "rir")]
        command = ["paper.py", f"--output={tmp_path / 'paper'}", "--seeds=1"]
        command += [f"--cnceleb={cnceleb}", f"--tidyvoice={tidyvoice}"]
        command += ["--only=aam", f"--verification=--top_n={top_n}"]
        command += ["--verification=--bootstrap=0", "--", *TINY, *noise]
        monkeypatch.setattr(sys, "argv", command)
        paper.main()

    monkeypatch.setattr(ladder, "script", script)
    make(top_n=2)
    assert len(ran) == 2 + 4 + 2  # trainings, and the tests of each corpus
    text = (tmp_path / "paper" / "table.md").read_text()
    said = capsys.readouterr().out
    assert text in said
    assert said.startswith("cnceleb: 1 trainings of at most about ")
    rows = [line.split(" | ") for line in text.splitlines() if "|" in line]
    head, measured, published = rows[0], rows[2], rows[3]
    assert head[1] == "cosine, Avg: trials"
    assert measured[0] == "| aam" and " / " in measured[1]
    assert published[:2] == ["| wespeaker ECAPA-512", "8.313 / 0.432"]
    assert "| cosine: TidyVoiceX_Dev language: different |" in text
    assert len(list(tmp_path.glob("paper/*/*/comparison.html"))) == 4 + 2
    ran.clear()
    make(top_n=2)
    assert ran == []  # nothing is done twice
    monkeypatch.setattr(ladder, "script", lambda *a, **k: ran.append(a[2]))
    make(top_n=3)  # other tests of the same trainings
    assert ran == ["speaker_verification_cosine.py"] * (4 + 2)
    monkeypatch.setattr(sys, "argv", ["paper.py"])
    with pytest.raises(SystemExit):  # a corpus must be named
        paper.main()


@pytest.mark.parametrize("recipe", ["VoxCeleb", "CNCeleb", "TidyVoice"])
def test_hard_speakers_and_cleaning_are_rows(recipe):
    rows = ladder.read_variants(paper.VARIANTS, None)
    assert list(rows)[-3:] == ["balancing", "hard", "cleaning"]
    train = f"{ROOT}/recipes/{recipe}/SpeakerRec/hparams/ecapa_scl.yaml"
    options = [train, "--number_of_epochs=7", "--output_folder=x"]
    hard = read_experiment([*options, *rows["hard"]])[0]["near_speakers"]
    assert (hard.share, hard.after) == (0.5, 3)
    cleaned = read_experiment([*options, *rows["cleaning"]])[0]
    assert cleaned["label_cleaner"].after == 3
    assert cleaned["near_speakers"] is None
