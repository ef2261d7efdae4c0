"""The loader's benchmark, at a size that measures nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_writes_its_table(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "loader.py"),
            str(tmp_path),
            "--files=8",
            "--file-seconds=1",
            "--crop=0.5",
            "--batch=4",
            "--workers=0",
            "--channels=8",
            "--seconds=0.01",
        ],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / "loader.md").read_text().splitlines()
    assert sum(line.startswith(("| wav", "| flac")) for line in lines) == 8
    assert "times what the encoder takes" in lines[-1]
