"""A list in blocks of any size gives what the whole list gives, to the bit."""

import functools

import numpy as np
import pytest
from commands import in_order

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import (
    bootstrap,
    metrics,
    plda,
    report,
    scoring,
    trials as lists,
)
from speechbrain_scl.evaluation.conditions import Conditions
from speechbrain_scl.evaluation.scored import score_list
from speechbrain_scl.evaluation.spool import Spool
from speechbrain_scl.evaluation.tally import Tally

N_SPEAKERS, N_ENROL, N_TEST, DIM = 12, 24, 40, 5


def speaker_of(name):
    return name.split("/")[0]


def write_list(path, n_trials, seed=0):
    """Some pairs of all, in no order, with a blank line."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(N_ENROL * N_TEST)[:n_trials]
    lines = []
    for enrol, test in zip(*np.divmod(pairs, N_TEST)):
        first, second = enrol % N_SPEAKERS, test % N_SPEAKERS
        lines.append(
            f"{int(first == second)} s{first}/e{enrol} s{second}/t{test}\n"
        )
    path.write_text("".join([*lines[:5], "\n", *lines[5:]]))
    return str(path)


def run(path, output, scorer_of):
    """Everything that a verification takes from a list."""
    rng = np.random.default_rng(1)
    trials = lists.read_trials(path)
    enrol, test = (
        rng.normal(size=(len(ids), DIM)).astype(np.float32)
        for ids in (trials.enrol_ids, trials.test_ids)
    )
    metadata = {f"s{i}": {"sex": "fm"[i % 2]} for i in range(N_SPEAKERS)}
    scored = score_list(
        trials,
        scorer_of(enrol, test, len(trials)),
        str(output),
        Conditions(trials, metadata, ["sex"], speaker_of),
    )
    found = report.measure(scored, speaker_of, 0.1, 30, calibrated=True)
    return output.read_bytes(), found


def products(enrol, test, n_trials):
    return functools.partial(
        scoring.inner_products, enrol, test, n_trials=n_trials
    )


def likelihood_ratios(enrol, test, n_trials):
    speakers = [str(i // 4) for i in range(80)]
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(20, DIM)).repeat(4, 0)
    vectors += 0.5 * rng.normal(size=(80, DIM))
    model = plda.fit_plda(vectors, speakers, rank=2)
    return functools.partial(plda.plda_scores, model, enrol, test)


@pytest.mark.parametrize("scorer_of", [products, likelihood_ratios])
# Of 960 pairs: a product of all, or trial by trial
@pytest.mark.parametrize("n_trials", [900, 50])
@pytest.mark.parametrize("size", [1, 7])
def test_blocks_of_any_size_give_the_same_bits(
    tmp_path, monkeypatch, scorer_of, n_trials, size
):
    path = write_list(tmp_path / "trials.txt", n_trials)
    whole = run(path, tmp_path / "whole.txt", scorer_of)
    monkeypatch.setattr(Spool, "BLOCK", size)
    monkeypatch.setattr(Spool, "IN_MEMORY", 64)
    monkeypatch.setattr(lists, "_PAIRS", size * 10)
    monkeypatch.setattr(bootstrap, "_WEIGHTS", 1)  # a resample at a time
    assert run(path, tmp_path / "blocks.txt", scorer_of) == whole


def test_the_figures_are_those_of_the_written_scores(tmp_path):
    path = write_list(tmp_path / "trials.txt", 900)
    content, found = run(path, tmp_path / "scores.txt", products)
    rows = [line.split() for line in content.decode().splitlines()]
    labels = np.array([row[0] == "1" for row in rows])
    scores = np.array([float(row[3]) for row in rows])
    sides = ([speaker_of(row[i]) for row in rows] for i in (1, 2))
    assert metrics.eer(scores, labels) == (found["eer"], found["eer_threshold"])
    assert metrics.eer_rocch(scores, labels) == found["eer_rocch"]
    assert metrics.min_dcf(scores, labels, 0.1)[0] == found["min_dcf"]
    assert metrics.cllr(scores, labels) == found["cllr"]
    assert metrics.min_cllr(scores, labels) == found["min_cllr"]
    # Speakers are numbered in another order: other resamples
    rates, _ = bootstrap.bootstrap(scores, labels, *sides, 200, 0.1)
    low, high = np.nanpercentile(rates, [2.5, 97.5])
    assert found["eer_ci"] == pytest.approx([low, high], abs=0.05)
    assert found["conditions"]["sex: f"]["n_trials"] > 0


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_first_trial_that_is_listed_twice_is_named(
    tmp_path, monkeypatch, size
):
    path = tmp_path / "trials.txt"
    lines = [f"{i % 2} a{i % 5} b{i}\n" for i in range(20)]
    path.write_text("".join([*lines, "\n", lines[7], lines[3]]))
    monkeypatch.setattr(Spool, "BLOCK", size)
    monkeypatch.setattr(lists, "_PAIRS", size)
    with pytest.raises(UserError, match="line 22: the trial a2 b7 is listed"):
        lists.read_trials(str(path))


def test_a_score_that_is_not_finite_is_named(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n0 a c\n")
    trials = lists.read_trials(str(path))
    with pytest.raises(UserError, match="score of a and c is nan"):
        score_list(trials, in_order([0.0, np.nan]))


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 3, 50) / 2
    labels = rng.random(50) < 0.3
    cut = rng.integers(0, 51)
    parts = Tally.of(scores[:cut], labels[:cut])
    parts += Tally.of(scores[cut:], labels[cut:])
    for score, targets, impostors in zip(
        parts.scores, parts.targets, parts.impostors
    ):
        assert targets == (labels & (scores == score)).sum()
        assert impostors == (~labels & (scores == score)).sum()
    assert len(parts) == 50 and np.all(np.diff(parts.scores) > 0)
