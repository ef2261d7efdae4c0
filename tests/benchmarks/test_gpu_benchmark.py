"""The GPU's benchmark: the same code on the CPU, small."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu  # noqa: E402


def test_every_part_gives_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path), "--modes=bf16"])
    gpu.main()
    text = (tmp_path / "gpu.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    parts = [row[0].strip("| ") for row in rows]
    assert {part: parts.count(part) for part in parts} == {
        "machine": 2,
        "CUDA against CPU": 18,
        "step": 3,
        "extraction": 5,
        "waits": 1,
        "processes": 2,
    }
    assert "failed" not in text and "DIFFERS" not in text


def dies(sizes):
    yield "first", "done"
    os._exit(7)


def fails(sizes):
    yield "first", "done"
    raise RuntimeError("CUDA error: out of | memory\nand more")


def hangs(sizes):
    child = subprocess.Popen(["sleep", "600"])
    yield "first", child.pid
    time.sleep(600)


@pytest.mark.parametrize(
    "part, gist",
    [(dies, "ended with 7"), (fails, "out of / memory"), (hangs, "not done")],
)
def test_a_part_that_fails_is_a_row(part, gist):
    limit = 60 if part is not hangs else 1
    rows = list(gpu.apart(part, ("sizes",), "part", limit))
    assert rows[0][0] == "first" and len(rows) == 2
    assert rows[1][1].startswith("failed: ") and gist in rows[1][1]
    if part is hangs:  # and what it started has ended with it
        status = Path(f"/proc/{rows[0][1]}/stat")
        assert not status.exists() or " Z " in status.read_text()


def test_no_time_is_a_row():
    assert list(gpu.apart(dies, ("sizes",), "part", 0)) == [
        ("part", "left out: no time")
    ]


def test_a_wrong_result_is_told(monkeypatch):
    right = gpu.operations

    def wrong(device, dtype):
        found = right(device, dtype)
        if dtype != gpu.torch.float64:
            found["loss"] = found["loss"] * 1.01
        return found

    monkeypatch.setattr(gpu, "operations", wrong)
    found = dict(gpu.check(SimpleNamespace(device="cpu"), "fp32"))
    assert found["fp32: loss"].startswith("DIFFERS")
    assert found["fp32: attention"].startswith("ok")
