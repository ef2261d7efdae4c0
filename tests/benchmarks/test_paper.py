"""The paper's table, from small trainings on the synthesised corpora."""

import sys

import pytest
from commands import ROOT, TINY, trial_option

sys.path.insert(0, str(ROOT / "benchmarks"))
import ladder  # noqa: E402
import paper  # noqa: E402


def test_all_corpora_from_training_to_table(
    corpus, cnceleb, tidyvoice, run_warm, tmp_path, monkeypatch, capsys
):
    ran = []

    def script(args, folder, name, hparams, *overrides, recipe, processes=1):
        """As the ladder's own, in a process that has its imports."""
        ran.append(name)
        if name == "train_speaker_embeddings.py" and "CNCeleb" in str(recipe):
            overrides += ("--strict=False", "--joined_duration=0")
        elif "VoxCeleb" in str(recipe):
            overrides += (trial_option(corpus, "verification_file"),)
        done = run_warm(name, hparams, *overrides, folder=recipe)
        assert done.returncode == 0, done.stderr[-3000:]

    monkeypatch.setattr(ladder, "script", script)
    noise = [f"--data_folder_{k}={corpus / k}" for k in ("noise", "rir")]
    command = ["paper.py", f"--output={tmp_path / 'paper'}"]
    command += [f"--voxceleb1={corpus}", f"--cnceleb={cnceleb}", "--seeds", "1"]
    command += [
        f"--tidyvoice={tidyvoice}",
        "--only",
        "aam",
        "--verification=--top_n=2",
    ]
    command += ["--verification=--bootstrap=0", "--", *TINY, *noise]
    monkeypatch.setattr(sys, "argv", command)
    paper.main()
    assert len(ran) == 3 + 2 + 4 + 2  # trainings, and the tests of each corpus
    text = (tmp_path / "paper" / "table.md").read_text()
    assert text in capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if "|" in line]
    head, measured, published = rows[0], rows[2], rows[3]
    assert "cosine: trials-cross-language" in head
    assert measured[0] == "| aam" and " / " in measured[1]
    assert published[0] == "| wespeaker ECAPA-512" and published[1] == "2.23"
    assert "as-norm, Concat: trials" in text
    assert "| cosine: TidyVoiceX_Dev language: different |" in text
    pages = tmp_path.glob("paper/*/*/comparison.html")
    assert len(list(pages)) == 2 + 4 + 2
    ran.clear()
    paper.main()
    assert ran == []  # nothing is done twice
    monkeypatch.setattr(ladder, "script", lambda *a, **k: ran.append(a[2]))
    at = command.index("--verification=--top_n=2")
    command[at] = "--verification=--top_n=3"
    monkeypatch.setattr(sys, "argv", command)
    paper.main()  # other tests of the same trainings
    assert ran == ["speaker_verification_cosine.py"] * (2 + 4 + 2)


def test_a_corpus_must_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["paper.py"])
    with pytest.raises(SystemExit):
        paper.main()
