"""A scan: killed and resumed, by processes, of files that change."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from commands import ROOT
from voxceleb_prepare import prepare_voxceleb

from speechbrain_scl.data import scan as module
from speechbrain_scl.data.audio import AudioFile, check_audio, find_audio
from speechbrain_scl.data.scan import Scan
from speechbrain_scl.errors import UserError

# Judges one file after the other, and is killed while it looks at the eighth.
KILLED = """
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from speechbrain_scl.data import audio, scan

calls = []

def check(path, **options):
    calls.append(path)
    if len(calls) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return audio.check_audio(path, **options)

scan.check_audio, scan._CHUNK, scan._AHEAD = check, 1, 0
scan.ThreadPoolExecutor = lambda n: ThreadPoolExecutor(1)
scan.Scan(sys.argv[2]).run(audio.find_audio(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path):
    """A corpus of twelve speakers, one of whose files is not to be used."""
    folder = tmp_path / "corpus"
    for i in range(24):
        path = folder / "wav" / f"s{i % 12:02d}" / "v0" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(16000 + i, 0.1), 16000)
    soundfile.write(path, np.full(8000, 0.1), 8000)
    return folder


@pytest.fixture
def judged(monkeypatch):
    """The paths that are judged."""
    paths = []

    def check(path, **options):
        paths.append(path)
        return check_audio(path, **options)

    monkeypatch.setattr(module, "check_audio", check)
    return paths


def scan_of(folder, journal, **options):
    scan = Scan(str(journal))
    assert scan.run(find_audio(folder), **options) == len(list(scan))
    return list(scan)


def test_a_killed_scan_goes_on(folder, tmp_path, judged):
    journal = tmp_path / "scan.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder, journal],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGKILL
    kept = len(journal.read_bytes().splitlines()) - 1
    assert 0 < kept < 8
    with open(journal, "ab") as file:  # as if killed while writing
        file.write(b'["half a li')
    found = scan_of(folder, journal)
    paths = find_audio(folder)
    assert sorted(judged) == paths[kept:]
    assert found == [check_audio(path) for path in paths]


def test_a_killed_worker_is_told(folder, tmp_path, judged, monkeypatch):
    """As the system does when memory runs out."""
    monkeypatch.setattr(module, "_CHUNK", 1)
    monkeypatch.setattr(module, "_AHEAD", 1)
    journal = tmp_path / "scan.jsonl"

    def paths():
        for i, path in enumerate(find_audio(folder)):
            if i == 12:
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGKILL)
            yield path

    with pytest.raises(UserError, match="prep_workers=1: ") as told:
        Scan(str(journal)).run(paths(), n_workers=1)
    kept = len(journal.read_bytes().splitlines()) - 1
    assert 0 < kept < 24
    assert f"{kept} files are judged and kept in {journal}" in str(told.value)
    found = scan_of(folder, journal)
    assert sorted(judged) == find_audio(folder)[kept:]
    assert found == [check_audio(path) for path in find_audio(folder)]


def test_memory_that_does_not_suffice_is_told(folder, tmp_path, monkeypatch):
    def check(path, **options):
        raise MemoryError

    monkeypatch.setattr(module, "check_audio", check)
    with pytest.raises(UserError, match="memory did not suffice.* 0 files"):
        scan_of(folder, tmp_path / "scan.jsonl")


def test_what_has_changed_is_judged_anew(folder, tmp_path, judged):
    journal = tmp_path / "scan.jsonl"
    scan_of(folder, journal)
    paths = find_audio(folder)
    judged.clear()
    assert len(scan_of(folder, journal)) == 24 and judged == []
    soundfile.write(paths[20], np.full(500, 0.1), 16000)
    found = scan_of(folder, journal)
    # And all that follow: the journal is a line of files.
    assert sorted(judged) == paths[20:]
    assert found[20] == AudioFile(paths[20], 500, 16000)
    judged.clear()
    scan_of(folder, journal, min_duration=0.5)
    assert sorted(judged) == paths
    os.remove(paths[-1])
    judged.clear()
    assert len(scan_of(folder, journal, min_duration=0.5)) == 23
    assert judged == []


def test_processes_write_the_same_manifests(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 5)
    trials = tmp_path / "trials.txt"
    trials.write_text("1 s00/v0/00.wav s00/v0/12.wav\n0 s00/x s01/x\n")
    contents = []
    for n in (0, 2):
        save = tmp_path / f"save{n}"
        prepare_voxceleb(str(folder), str(save), str(trials), 2, prep_workers=n)
        contents.append({p.name: p.read_bytes() for p in save.iterdir()})
    assert contents[0] == contents[1]
    names = {"train.csv", "valid.csv", "excluded.csv", "prepare.json"}
    assert set(contents[0]) == names
    counts = json.loads(contents[0]["prepare.json"])["counts"]
    assert counts["left_out"] == {"sample rate": 1}
