"""The scoring benchmark, at a size that takes no time."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import scoring as benchmark  # noqa: E402


def test_every_task_is_measured_and_agrees_with_stock(tmp_path, monkeypatch):
    sizes = "--trials 400 --utterances 50 --cohort 400 --stock-trials 20 "
    sizes += "--stock-scores 100 --models 4 --tests 50"
    monkeypatch.setattr(
        sys, "argv", ["scoring.py", str(tmp_path), *sizes.split()]
    )
    # It compares its scores with the stock loop's, and stops if they differ.
    benchmark.main()
    rows = (tmp_path / "scoring.md").read_text().splitlines()
    assert [row.count("|") for row in rows[:5]] == [6] * 5
    assert "4 models x 50 utterances = 200 trials" in rows[-1]
