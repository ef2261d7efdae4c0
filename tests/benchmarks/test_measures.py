"""The benchmarks' own code, at sizes that take no time."""

import sys
import time

import classes
import extraction
import gpu
import ladder_report
import measure
import mislabel
import near
import objective
import preparation
import pytest
import scoring
import trials
import two_processes  # noqa: F401  whose server forks the processes here too
from commands import ROOT, TINY, within

from speechbrain_scl.data.manifest import read_manifest

EXTRACTION = "--channels 8 --utterances 4 --seconds 0.2 0.5 --batches 2"
EXTRACTION += " --rounds 1"
SCORING = "--trials 400 --utterances 50 --cohort 400 --stock-trials 20"
SCORING += " --stock-scores 100"


@pytest.mark.parametrize(
    "benchmark, options, cells",
    [
        (objective, "--sizes 8 16 --seconds 0", [9, 9]),
        (classes, "--classes 100 200 --steps 1 --batch 4", [5, 5]),
        (trials, "--trials 400 900 --speakers 20 --cohort 500", [10, 10]),
        (preparation, "--many 200 300", [5, 5]),
        (extraction, EXTRACTION, [5] * 4),
        # It compares its scores with the stock loop's, and stops if they differ.
        (scoring, SCORING, [5, 5, 5]),
    ],
)
def test_every_row(benchmark, options, cells, tmp_path, monkeypatch):
    # The peaks of copies of this process say nothing
    monkeypatch.setattr(measure, "alone", lambda run, *args: run(*args))
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), *options.split()])
    benchmark.main()
    (table,) = tmp_path.glob("*.md")
    rows = table.read_text().splitlines()[2:]
    assert [row.count(" | ") + 1 for row in rows] == cells


def test_near_speakers_have_a_row():
    assert len(near.row(40)) == 5


def test_a_process_of_its_own_has_its_own_peak():
    before = measure.peak_mib()
    _, grown = measure.alone(measure.spent_here, bytes_of_64_mib)
    assert 60 < grown < 70
    assert measure.peak_mib() - before < 30
    spent = measure.in_turn({"a": lambda: time.sleep(0.02)}, rounds=2)["a"]
    assert len(spent.clock) == 2 and spent.clock.min() > 0.015
    assert spent.cpu.max() < 0.015


def bytes_of_64_mib():
    return len(bytearray(2**26))


SIZES = gpu.SimpleNamespace(**gpu.SMALL, device="cpu")


def test_every_part_of_the_gpus_gives_its_rows(tmp_path, monkeypatch, capsys):
    gpu.run_part("machine")
    assert capsys.readouterr().out.count("\t") == 2
    parts = ["machine", "bf16", "extraction", "processes"]
    monkeypatch.setattr(
        gpu, "rows_of", lambda command, limit: gpu.PARTS[command[-1]](SIZES)
    )
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), "--parts", *parts])
    gpu.main()
    text = (tmp_path / "gpu.md").read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:]]
    assert [rows.count(part) for part in parts] == [2, 3, 5, 2]
    assert "gloo, 2 process(es): gathered rows and gradient | ok |" in text


def test_a_wrong_result_on_the_gpu_is_told(monkeypatch):
    right = gpu.operations

    def wrong(device, dtype):
        found = right(device, dtype)
        if dtype != gpu.torch.float64:
            found["loss"] = found["loss"] * 1.2
        return found

    monkeypatch.setattr(gpu, "operations", wrong)
    found = dict(gpu.checks(SIZES))
    told = [name for name, row in found.items() if row.startswith("DIFFERS")]
    assert told == [f"{precision}: loss" for precision in gpu.PRECISIONS]
    assert sum(row.startswith("ok") for row in found.values()) == 15


def test_a_part_that_fails_is_a_row():
    for program, gist in {
        "exit 7": "exit status 7",
        "echo 'RuntimeError: out of | memory' >&2; exit 1": "out of / memory",
        "sleep 600": "not done in 1 s",
    }.items():
        command = ["bash", "-c", f"printf 'a\\t2\\n'; {program}"]
        first, (_, said) = gpu.rows_of(command, 1)
        assert first == ["a", "2"]
        assert said.startswith("failed: ") and gist in said


def test_a_share_of_a_training_gets_wrong_labels(corpus, tmp_path):
    path = str(ROOT / "hparams" / "ecapa_small.yaml")
    arguments = [path, *TINY, *within(corpus, tmp_path)]
    *_, noisy = mislabel.mislabelled_training(arguments, 0.5, seed=1)
    clean = read_manifest(str(tmp_path / "save" / "train.csv"))
    found = read_manifest(noisy.removeprefix("--train_annotation="))
    wrong = [a.spk_id != b.spk_id for a, b in zip(clean, found, strict=True)]
    assert sum(wrong) == len(clean) // 2
    assert {u.spk_id for u in found} <= {u.spk_id for u in clean}
    assert [u.wav for u in clean] == [u.wav for u in found]
    assert mislabel.mislabel(clean, 0.5, seed=1) == found
    assert mislabel.mislabel(clean, 0.5, seed=2) != found


def test_how_many_wrong_labels_are_found(tmp_path):
    ladder = ladder_report.Ladder(tmp_path, ["a"], [1, 2], {"p": [], "q": []})
    assert ladder_report.found_labels(ladder) == ""
    right = "ID,spk_id\nu,ann\nv,ann\nw,bob\nx,bob\n"
    wrong = right.replace("v,ann", "v,bob").replace("w,bob", "w,ann")
    for run in ("1/p", "1/q", "2/p", "2/q"):
        folder = tmp_path / "a" / run
        (folder / "save").mkdir(parents=True)
        (folder / "save/train.csv").write_text(right)
        (folder / "ladder.json").write_text("{}")
        (folder / "save/mislabelled.csv").write_text(wrong)
        names = "\nx,\nw," if run == "2/q" else ""
        (folder / "suspects.csv").write_text(f"utterance,speaker\nv,{names}\n")
    row = ladder_report.found_labels(ladder).splitlines()[-1]
    # Of four wrong ones 2 and 3 are found, by 2 and 4 names
    assert row == "| a | 4 ± 0 | 3 ± 1 | 62 ± 18 | 88 ± 18 |"
