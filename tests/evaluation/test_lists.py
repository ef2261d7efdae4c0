"""The figures are those of scores.txt: anybody's reading gives them again."""

import numpy as np
import pytest

from speechbrain_scl.evaluation import bootstrap, metrics, results
from speechbrain_scl.evaluation.conditions import conditions
from speechbrain_scl.evaluation.scoring import inner_products
from speechbrain_scl.evaluation.trials import read_trials, write_scores

N_SPEAKERS, N_ENROL, N_TEST = 12, 24, 40


def speaker_of(name):
    return name.split("/")[0]


def test_the_figures_are_those_of_the_written_scores(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for pair in rng.permutation(N_ENROL * N_TEST)[:900]:
        enrol, test = divmod(pair, N_TEST)
        one, other = enrol % N_SPEAKERS, test % N_SPEAKERS
        lines.append(f"{one == other:d} s{one}/e{enrol} s{other}/t{test}\n")
    path = tmp_path / "trials.txt"
    path.write_text("".join(lines))
    trials = read_trials(str(path))
    sides = rng.normal(size=(N_ENROL, 5)), rng.normal(size=(N_TEST, 5))
    trials = trials.with_scores(
        inner_products(*sides, trials.enrol_index, trials.test_index)
    )
    write_scores(str(path), trials)
    sexes = {f"s{i}": {"sex": "fm"[i % 2]} for i in range(N_SPEAKERS)}
    parts = conditions(trials, sexes, ["sex"], speaker_of)
    found, _ = results.measure(trials, speaker_of, 0.1, 30, True, parts)

    rows = [line.split() for line in path.read_text().splitlines()]
    labels = np.array([row[0] == "1" for row in rows])
    scores = np.array([float(row[3]) for row in rows])
    speakers = [[int(speaker_of(row[i])[1:]) for row in rows] for i in (1, 2)]
    assert metrics.eer(scores, labels) == (found["eer"], found["eer_threshold"])
    assert metrics.eer_rocch(scores, labels) == found["eer_rocch"]
    assert metrics.min_dcf(scores, labels, 0.1)[0] == found["min_dcf"]
    assert metrics.cllr(scores, labels) == found["cllr"]
    assert metrics.min_cllr(scores, labels) == found["min_cllr"]
    # Speakers are numbered in another order: other resamples
    rates, _ = bootstrap.bootstrap(scores, labels, *speakers, 200, 0.1)
    low, high = np.nanpercentile(rates, [2.5, 97.5])
    assert found["eer_ci"] == pytest.approx([low, high], abs=0.05)
    assert found["conditions"]["sex: f"]["n_trials"] > 0
