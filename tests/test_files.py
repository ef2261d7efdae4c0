"""Files and folders at every instant: the old, or the new."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from speechbrain_scl import files
from speechbrain_scl.errors import UserError

# Kills a process that replaces a folder again and again, 100 times
KILLS = """
import itertools, os, random, signal, sys, time
from speechbrain_scl.files import atomic_folder

def replace_again_and_again(path, version, told):
    for version in itertools.count(version + 1):
        with atomic_folder(path) as aside:
            for name in "abc":
                with open(os.path.join(aside, name), "w") as file:
                    file.write(str(version))
        os.write(told, b".")

path, version, draw = sys.argv[1], 0, random.Random(1986)
for kill in range(100):
    heard, told = os.pipe()
    writer = os.fork()
    if writer == 0:
        replace_again_and_again(path, version, told)
    os.close(told)
    for _ in range(draw.randint(1, 3)):
        version += len(os.read(heard, 1))
    time.sleep(draw.uniform(0, 0.002))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(heard)
    found = [open(os.path.join(path, name)).read() for name in "abc"]
    assert sorted(os.listdir(path)) == ["a", "b", "c"], (kill, found)
    assert len(set(found)) == 1 and int(found[0]) >= version, (kill, found)
    version = int(found[0])
    asides = [n for n in os.listdir(os.path.dirname(os.path.realpath(path)))
              if n.startswith(".")]
    assert len(asides) < 2, asides  # what this writer left
print(kill + 1, "kills")
"""


def content(folder):
    return {p.name: p.read_text() for p in Path(folder).iterdir()}


def put(folder, text):
    with files.atomic_folder(folder) as aside:
        Path(aside, "a").write_text(text)


def test_a_folder_is_replaced_through_a_link(tmp_path):
    real = tmp_path / "disk"
    link = tmp_path / "model"
    put(real, "old")
    link.symlink_to(real)
    put(link, "new")
    assert link.is_symlink() and content(real) == {"a": "new"}
    file = tmp_path / "link.txt"
    file.symlink_to(real / "a")
    with files.atomic_write(file) as opened:
        opened.write("newer")
    assert file.is_symlink() and content(real) == {"a": "newer"}
    assert sorted(os.listdir(tmp_path)) == ["disk", "link.txt", "model"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_error_leaves_the_old_folder(tmp_path, monkeypatch, can_exchange):
    path = tmp_path / "model"
    put(path, "old")
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda *names: False)
    with pytest.raises(ZeroDivisionError):
        with files.atomic_folder(path) as aside:
            Path(aside, "a").write_text("half")
            raise ZeroDivisionError
    assert content(path) == {"a": "old"}
    put(path, "new")
    assert content(path) == {"a": "new"}
    assert os.listdir(tmp_path) == ["model"]


def test_a_kill_loses_nothing(tmp_path):
    """Neither the folder (here behind a link) nor what was finished, whenever
    it comes."""
    (tmp_path / "disk").mkdir()
    path = tmp_path / "model"
    path.symlink_to(tmp_path / "disk" / "model")
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(path)], capture_output=True, text=True
    )
    assert done.stdout == "100 kills\n", done.stderr
    assert path.is_symlink()


def start(code, *arguments):
    """A process that has said that it is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "there\n"
    return process


WRITES = """
import os, sys
from speechbrain_scl.files import *
os.chdir(sys.argv[1])
with (atomic_write("file") as file, atomic_folder("folder") as folder,
      open(os.path.join(folder, "a"), "w") as a):
    file.write("x"); file.flush()
    a.write("x"); a.flush()
    print("there", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    """And what a living one is about to finish stays; a named pipe of such a
    name does not hang it."""
    killed, living = start(WRITES, tmp_path), start(WRITES, tmp_path)
    os.mkfifo(tmp_path / f"{files._PREFIX}x")
    assert len(os.listdir(tmp_path)) == 5
    killed.kill()
    killed.communicate()
    files.write_json(tmp_path / "other.json", {})
    assert len(os.listdir(tmp_path)) == 3
    living.communicate("go on")
    assert living.returncode == 0
    names = ["file", "folder", "other.json"]
    assert sorted(os.listdir(tmp_path)) == names
    assert content(tmp_path / "folder") == {"a": "x"}


RUNS = """
import sys
from speechbrain_scl.files import only_run_in
with only_run_in(sys.argv[1]):
    print("there", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_a_killed_one_does_not_block(tmp_path):
    first = start(RUNS, tmp_path)
    with pytest.raises(UserError, match=f"process {first.pid} on .*wait for"):
        with files.only_run_in(tmp_path):
            pass
    first.kill()
    first.communicate()
    with files.only_run_in(tmp_path):
        pass


def test_permissions_are_those_of_other_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_UMASK", 0o027)  # read once, at the start
    put(tmp_path / "d", "x")
    files.write_json(tmp_path / "f", {})
    for name, wanted in (("f", 0o640), ("d", 0o750)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == wanted
