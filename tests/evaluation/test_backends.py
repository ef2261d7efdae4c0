"""Scores as the options of a verification ask for them."""

import numpy as np
import pytest

from speechbrain_scl.data.manifest import Utterance, write_manifest
from speechbrain_scl.evaluation.backends import list_scorer


@pytest.mark.parametrize("norm", ["none", "z-norm"])
@pytest.mark.parametrize("backend", ["cosine", "centred"])
@pytest.mark.parametrize("of", ["speakers", "utterances"])
def test_each_score_by_hand(tmp_path, norm, backend, of):
    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    vectors = unit(np.random.default_rng(0).normal(size=(9, 4)) + 0.5)
    path = str(tmp_path / "cohort.csv")
    write_manifest(
        path,
        [Utterance(str(i), 1.0, "a.wav", 0, 1, str(i % 3)) for i in range(6)],
    )
    options = {"backend": backend, "score_norm": norm, "cohort": path}
    options |= {"cohort_of": of, "crops": None, "top_n": 2}
    score = list_scorer(
        options, lambda paths: {name: vectors[int(name)] for name in paths}
    )
    found = score(vectors[6:8], vectors[8:], np.array([0, 1]), np.array([0, 0]))

    cohort = vectors[:6]
    if of == "speakers":
        cohort = unit(np.stack([cohort[i::3].mean(0) for i in range(3)]))
    mean = cohort.mean(0) if backend == "centred" else 0.0
    enrol, test, cohort = (
        unit(x - mean) for x in (vectors[6:8], vectors[8], cohort)
    )
    wanted = enrol @ test
    if norm == "z-norm":
        impostors = enrol @ cohort.T
        wanted = (wanted - impostors.mean(1)) / impostors.std(1, ddof=1)
    np.testing.assert_allclose(found, wanted)
