"""The mini corpus: the same every time, and shaped as promised."""

import multiprocessing
import threading

import pytest
from commands import MINI, read_rows

from demo.mini import make_mini_corpus
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials


def test_the_seed_decides_every_bit(corpus, tmp_path):
    again = tmp_path / "again"
    make_mini_corpus(str(again), **MINI)
    first, second = (
        {p.relative_to(x): p.read_bytes() for p in x.rglob("*") if p.is_file()}
        for x in (corpus, again)
    )
    assert first == second
    # A finished corpus is kept, and another refused.
    before = (again / "mini.json").stat().st_mtime_ns
    make_mini_corpus(str(again), **MINI)
    assert (again / "mini.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="delete it or choose another"):
        make_mini_corpus(str(again), **{**MINI, "seed": 5})


def test_its_shape(corpus):
    of = {row["path"]: row for row in read_rows(corpus / "metadata.csv")}
    train, test = (
        {r["speaker"] for r in of.values() if r["split"] == split}
        for split in ("train", "test")
    )
    assert not set(train) & set(test)
    for speaker in test:
        own = [r for r in of.values() if r["speaker"] == speaker]
        assert len({r["language"] for r in own}) == 2
        assert len({r["session"] for r in own}) == 3
    for name, across in (("same", False), ("cross", True)):
        trials = read_trials(str(corpus / f"trials-{name}-language.txt"))
        sides = trials.enrol_index, trials.test_index
        for e, t, label in zip(*sides, trials.labels):
            a, b = of[trials.enrol_ids[e]], of[trials.test_ids[t]]
            assert a["split"] == b["split"] == "test"
            assert (a["speaker"] == b["speaker"]) == label
            assert (a["language"] != b["language"]) == across
            assert a["session"] != b["session"]


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
