"""The ladder's table, from runs that are already there."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import ladder  # noqa: E402
import matrix  # noqa: E402


def test_the_rungs_take_the_full_objective_apart():
    rungs = ladder.read_variants(ROOT / "hparams" / "ladder.yaml", None)
    assert list(rungs) == ["aam", "supcon", "margin", "attention", "balancing"]
    assert rungs["aam"] == ["--contrastive_loss=null"]
    assert "--contrastive_loss={margin: 0.0}" in rungs["supcon"]
    assert (
        "--balancer=!new:speechbrain_scl.balancing.FixedBalancer"
        in rungs["attention"]
    )
    assert rungs["balancing"] == []
    with pytest.raises(SystemExit, match="no variant typo"):
        ladder.read_variants(ROOT / "hparams" / "ladder.yaml", ["typo"])


def test_finished_runs_are_reported_and_not_repeated(
    tmp_path, monkeypatch, capsys
):
    trials = tmp_path / "list.txt"
    pairs = [(a, b) for a in "stuv" for b in "stuv"]
    trials.write_text(
        "".join(f"{int(a == b)} {a}/1/x {b}/2/y\n" for a, b in pairs)
    )
    rates = {("aam", 1): 0.25, ("aam", 2): 0.35, ("balancing", 1): 0.1}
    rates[("balancing", 2)] = 0.2
    for (name, seed), rate in rates.items():
        folder = tmp_path / "out" / name / str(seed)
        (folder / "inference").mkdir(parents=True)
        (folder / "verification").mkdir()
        (folder / "train_log.txt").write_text(
            "epoch: 1 - valid EER: 3.00e-01\nepoch: 2 - valid EER: 0.125\n"
        )
        (folder / "verification" / "metrics.json").write_text(
            json.dumps({"trials": {"list": {"eer": rate, "min_dcf": 0.5}}})
        )
        # aam ranks every trial wrongly, balancing rightly.
        sign = 1 if name == "balancing" else -1
        (folder / "verification" / "scores.txt").write_text(
            "".join(
                f"{int(a == b)} {a}/1/x {b}/2/y {sign * (a == b)}\n"
                for a, b in pairs
            )
        )
    monkeypatch.setattr(ladder, "script", None)  # calling it would fail
    monkeypatch.setattr(
        sys,
        "argv",
        ["ladder.py", "--data-folder", str(tmp_path), "--trials", str(trials)]
        + ["--output", str(tmp_path / "out"), "--seeds", "1", "2"]
        + ["--only", "aam", "balancing"],
    )
    ladder.main()
    table = capsys.readouterr().out
    assert "| aam | 12.50 ± 0.00 | 30.00 ± 7.07 / 0.500 ± 0.000 |" in table
    assert "| balancing | -15.00 (-50.00 to -50.00) |" in table
    assert (tmp_path / "out" / "results.png").stat().st_size > 5000
    assert len((tmp_path / "out" / "results.csv").read_text().split()) == 9

    # Training corpora against test lists, from such ladders
    monkeypatch.setattr(
        sys,
        "argv",
        ["matrix.py", str(tmp_path / "matrix.md")]
        + [f"{name}={tmp_path / 'out'}" for name in ("english", "german")],
    )
    matrix.main()
    rows = (tmp_path / "matrix.md").read_text().splitlines()
    assert rows[0] == "| trained on | objective | list |"
    assert rows[2:4] == [
        "| english | aam | 30.00 ± 7.07 |",
        "| english | balancing | 15.00 ± 7.07<br>-15.00 (-50.00 to -50.00) |",
    ]
    assert rows[4].startswith("| german | aam |")


def test_matrix_of_verifications(tmp_path, monkeypatch):
    pairs = {"language: en - zh": {"eer": 0.25}, "gender: f": {"eer": 0.5}}
    for name, found in {
        "one": {"eer": 0.1, "eer_ci": [0.05, 0.2]},
        "two": {"eer": 0.3, "eer_ci": None, "conditions": pairs},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(
            json.dumps({"trials": {f"list-{name}": found}})
        )
    output = tmp_path / "matrix.md"
    command = ["matrix.py", str(output), f"voxceleb={tmp_path / 'one'}"]
    monkeypatch.setattr(sys, "argv", [*command, f"voxceleb={tmp_path / 'two'}"])
    matrix.main()
    assert output.read_text().splitlines()[::2] == [
        "| trained on | objective | list-one | list-two | list-two, en - zh |",
        "| voxceleb |  | 10.00 (5.00 to 20.00) | 30.00 | 25.00 |",
    ]
    for wrong in (f"voxceleb={tmp_path / 'one'}", f"cnceleb={tmp_path}"):
        monkeypatch.setattr(sys, "argv", [*command, wrong])
        with pytest.raises(SystemExit, match="already|neither results.csv"):
            matrix.main()
