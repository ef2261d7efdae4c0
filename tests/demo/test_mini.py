"""The mini corpus: the same every time, and shaped as promised."""

import csv
import hashlib
import multiprocessing
import threading
from pathlib import Path

import pytest

from demo.mini import make_mini_corpus
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials

SMALL = {"n_train": 4, "n_test": 4, "utterances_per_language": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sub-corpus."""
    folder = tmp_path_factory.mktemp("mini") / "corpus"
    make_mini_corpus(str(folder), **SMALL, seed=3)
    return folder


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.md5(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_the_seed_decides_every_bit(folder, tmp_path):
    make_mini_corpus(str(tmp_path / "again"), **SMALL, seed=3)
    assert digests(tmp_path / "again") == digests(folder)


def test_its_shape(folder):
    with open(folder / "metadata.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_split = {
        split: {r["speaker"] for r in rows if r["split"] == split}
        for split in ("train", "test")
    }
    assert not by_split["train"] & by_split["test"]
    for speaker in by_split["test"]:
        own = [r for r in rows if r["speaker"] == speaker]
        assert len({r["language"] for r in own}) == 2
        assert len({r["session"] for r in own}) == 3
    of = {r["path"]: r for r in rows}
    for name, across in (("same", False), ("cross", True)):
        trials = read_trials(str(folder / f"trials-{name}-language.txt"))
        for e, t, label in zip(
            trials.enrol_index, trials.test_index, trials.labels
        ):
            a, b = of[trials.enrol_ids[e]], of[trials.test_ids[t]]
            assert a["split"] == b["split"] == "test"
            assert (a["speaker"] == b["speaker"]) == label
            assert (a["language"] != b["language"]) == across
            assert a["session"] != b["session"]


def test_a_finished_corpus_is_kept_and_another_refused(folder):
    before = digests(folder)
    make_mini_corpus(str(folder), **SMALL, seed=3)
    assert digests(folder) == before
    with pytest.raises(UserError, match="delete it or choose another"):
        make_mini_corpus(str(folder), **SMALL, seed=5)


def test_a_killed_synthesis_is_told(tmp_path):
    done = threading.Event()

    def kill():
        while not done.wait(0.01):
            for process in multiprocessing.active_children():
                process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(UserError, match="killed.* starts anew"):
            make_mini_corpus(str(tmp_path / "mini"))
    finally:
        done.set()
        killer.join()
    assert list(tmp_path.iterdir()) == []
