"""Files and folders at every instant: the old, or the new."""

import itertools
import multiprocessing
import os
import random
import stat
import time
from pathlib import Path

import pytest

from speechbrain_scl import files
from speechbrain_scl.errors import UserError


def started(work):
    """A process that works until it is killed, or told to go on and end; and
    how to tell it. ``work`` gets a function that says something and waits."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()

    def say(what, wait=True):
        its.send(what)
        return wait and its.recv()

    process = context.Process(target=work, args=(say,))
    process.start()
    return process, ours


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
    version, draw = 0, random.Random(1986)

    def replace_again_and_again(say):
        for number in itertools.count(version + 1):
            with files.atomic_folder(path) as aside:
                for name in "abc":
                    Path(aside, name).write_text(str(number))
            say(number, wait=False)

    for kill in range(50):
        writer, heard = started(replace_again_and_again)
        for _ in range(draw.randint(1, 3)):
            version = heard.recv()
        time.sleep(draw.uniform(0, 0.002))
        writer.kill()
        writer.join()
        found = content(path)
        assert sorted(found) == ["a", "b", "c"]
        assert len(set(found.values())) == 1 and int(found["a"]) >= version
        version = int(found["a"])
        left = [x for x in os.listdir(tmp_path / "disk") if x != "model"]
        assert len(left) < 2, (kill, left)  # what this writer left
    assert path.is_symlink()


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    """And what a living one is about to finish stays; a named pipe of such a
    name does not hang it."""

    def write(say):
        with (
            files.atomic_write(tmp_path / "file") as file,
            files.atomic_folder(tmp_path / "folder") as folder,
        ):
            file.write("x")
            Path(folder, "a").write_text("x")
            say("there")

    (killed, first), (living, second) = started(write), started(write)
    assert (first.recv(), second.recv()) == ("there", "there")
    pipe = f"{files._PREFIX}x"
    os.mkfifo(tmp_path / pipe)
    assert len(os.listdir(tmp_path)) == 5
    killed.kill()
    killed.join()
    files.write_json(tmp_path / "other.json", {})
    assert len(os.listdir(tmp_path)) == 4
    second.send("go on")
    living.join()
    assert living.exitcode == 0
    names = [pipe, "file", "folder", "other.json"]
    assert sorted(os.listdir(tmp_path)) == names
    assert content(tmp_path / "folder") == {"a": "x"}


def test_one_run_in_a_folder_and_a_killed_one_does_not_block(tmp_path):
    def run(say):
        with files.only_run_in(tmp_path):
            say("there")

    first, heard = started(run)
    heard.recv()
    with pytest.raises(UserError, match=f"process {first.pid} on .*wait for"):
        run(print)
    first.kill()
    first.join()
    run(print)
    with pytest.raises(UserError, match="was moved"):
        with files.only_run_in(tmp_path / "a"):
            (tmp_path / "a").rename(tmp_path / "b")


def test_permissions_are_those_of_other_files(tmp_path):
    before = os.umask(0o027)
    put(tmp_path / "d", "x")
    files.write_json(tmp_path / "f", {})
    os.umask(before)
    for name, wanted in (("f", 0o640), ("d", 0o750)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == wanted
