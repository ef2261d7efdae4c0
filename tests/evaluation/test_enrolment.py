"""Enrolment models of several utterances."""

import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.enrolment import (
    mean_embedding,
    read_enrolment_map,
)


def test_kaldis_and_cn_celebs_layout(tmp_path):
    path = tmp_path / "enroll.map"
    text = "José-enroll a/1.wav\ta/2.wav\r\n\r\nbob-enroll b/1.wav\r\n"
    for encoding in ("utf-8-sig", "cp1252"):
        path.write_bytes(text.encode(encoding))
        assert read_enrolment_map(str(path)) == {
            "José-enroll": ["a/1.wav", "a/2.wav"],
            "bob-enroll": ["b/1.wav"],
        }


@pytest.mark.parametrize(
    "text, message",
    [
        ("ann a.wav\nbob\n", "line 2: bob has no utterance"),
        ("ann a.wav\n\nann b.wav\n", "line 3: ann comes twice"),
        ("ann a.wav b.wav a.wav\n", "line 1: an utterance comes twice"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, text, message):
    path = tmp_path / "enroll.map"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_enrolment_map(str(path))
    with pytest.raises(UserError, match="there is no such file"):
        read_enrolment_map(str(tmp_path / "gone.map"))


def test_a_mean_with_crops_keeps_both_scores():
    rng = np.random.default_rng(0)

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    whole = unit(rng.normal(size=(4, 8)))  # three to enrol, one to test
    crops = unit(rng.normal(size=(4, 5, 8)))
    vectors = np.concatenate([whole, crops.mean(1)], axis=1) / np.sqrt(2)
    model = mean_embedding(vectors[:3], crops=True)
    wanted = (
        unit(whole[:3].mean(0)) @ whole[3]
        + np.mean([a @ b for c in crops[:3] for a in c for b in crops[3]])
    ) / 2
    assert model @ vectors[3] == pytest.approx(wanted)
