"""From a list to its figures: the order in which trials are taken is not to
be seen, and the figures are those of scores.txt."""

import numpy as np
import pytest

from speechbrain_scl.evaluation import (
    bootstrap,
    metrics,
    plda,
    ratios,
    results,
    scoring,
    trials as lists,
)
from speechbrain_scl.evaluation.conditions import conditions

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


def run(path, output, scorer):
    """Everything that a verification takes from a list."""
    rng = np.random.default_rng(1)
    trials = lists.read_trials(path)
    enrol, test = (
        rng.normal(size=(len(ids), DIM)).astype(np.float32)
        for ids in (trials.enrol_ids, trials.test_ids)
    )
    metadata = {f"s{i}": {"sex": "fm"[i % 2]} for i in range(N_SPEAKERS)}
    trials = trials.with_scores(
        scorer(enrol, test, trials.enrol_index, trials.test_index)
    )
    lists.write_scores(str(output), trials)
    parts = conditions(trials, metadata, ["sex"], speaker_of)
    found, _ = results.measure(trials, speaker_of, 0.1, 30, True, parts)
    return output.read_bytes(), found


def likelihood_ratios(*trials):
    speakers = [str(i // 4) for i in range(80)]
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(20, DIM)).repeat(4, 0)
    vectors += 0.5 * rng.normal(size=(80, DIM))
    model = plda.fit_plda(vectors, speakers, rank=2)
    return plda.plda_scores(model, *trials)


@pytest.mark.parametrize("scorer", [scoring.inner_products, likelihood_ratios])
# Of 960 pairs: a product of all, or trial by trial
@pytest.mark.parametrize("n_trials", [900, 50])
@pytest.mark.parametrize("size", [1, 7])
def test_blocks_of_any_size_give_the_same_bits(
    tmp_path, monkeypatch, scorer, n_trials, size
):
    path = write_list(tmp_path / "trials.txt", n_trials)
    whole = run(path, tmp_path / "whole.txt", scorer)
    monkeypatch.setattr(lists, "_BLOCK", size)
    monkeypatch.setattr(bootstrap, "_CELLS", 1)  # a resample at a time
    assert run(path, tmp_path / "blocks.txt", scorer) == whole


def test_the_figures_are_those_of_the_written_scores(tmp_path):
    path = write_list(tmp_path / "trials.txt", 900)
    content, found = run(path, tmp_path / "scores.txt", scoring.inner_products)
    rows = [line.split() for line in content.decode().splitlines()]
    labels = np.array([row[0] == "1" for row in rows])
    scores = np.array([float(row[3]) for row in rows])
    sides = [[int(speaker_of(row[i])[1:]) for row in rows] for i in (1, 2)]
    assert metrics.eer(scores, labels) == (found["eer"], found["eer_threshold"])
    rates = metrics.error_rates(scores, labels)[:2]
    assert metrics.eer_rocch(*rates) == found["eer_rocch"]
    assert metrics.min_dcf(scores, labels, 0.1)[0] == found["min_dcf"]
    assert ratios.cllr(scores, labels) == found["cllr"]
    assert ratios.min_cllr(scores, labels) == found["min_cllr"]
    # Speakers are numbered in another order: other resamples
    rates, _ = bootstrap.bootstrap(scores, labels, *sides, 200, 0.1)
    low, high = np.nanpercentile(rates, [2.5, 97.5])
    assert found["eer_ci"] == pytest.approx([low, high], abs=0.05)
    assert found["conditions"]["sex: f"]["n_trials"] > 0
