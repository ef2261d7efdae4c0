"""Labelled pairs of one's own become a threshold, with its errors."""

import itertools

import pytest

from speechbrain_scl.data.tables import read_pairs
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def pairs(corpus, tmp_path):
    """Of two recordings of each speaker, as a spreadsheet has them."""
    recordings = [
        sorted(map(str, speaker.rglob("*.wav")))[:2]
        for speaker in sorted((corpus / "wav").iterdir())
    ]
    lines = ["first;second;same"]
    for a, b in itertools.combinations(recordings, 2):
        lines.append(f"{a[0]};{b[1]};0")
    lines += [f"{a};{b};1" for a, b in recordings]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_threshold_of_ones_own(trained, pairs, tmp_path, say, spoken):
    model, output = str(trained / "inference"), tmp_path / "mine.json"
    text = say("calibrate", model, pairs, "--output", output)
    calibration = Calibration.load(output)
    threshold, *_ = calibration.operating_point(0.5)
    assert f"from a cosine of {threshold:.3f} on" in text
    assert "55 pairs of 10 speakers" in text and "95 % interval" in text
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    verifier = SpeakerVerifier.load(model, calibration=str(output))
    decided = verifier.verify(*spoken[:2])
    assert decided.threshold == pytest.approx(threshold)
    assert decided.miss is not None


def test_pairs_that_cannot_be_used(untrained, pairs, tmp_path, refused):
    output = tmp_path / "mine.json"
    asked = ["calibrate", untrained, pairs, "--output", output]
    a, _, c = pairs.read_text().splitlines()[-3:]
    (a, b), (c, _) = a.split(";")[:2], c.split(";")[:2]
    ab, bc, ac = f"{a},{b}", f"{b},{c}", f"{a},{c}"
    for lines, said, *more in (
        ([f"{ab},yes"], "line 2"),
        ([f"{ab},1", f"{bc},1", f"{ac},0"], "link them as one"),
        ([f"{ab},1", f"{ac},0"], "between 0 and 1", "--p-target=1"),
    ):
        pairs.write_text("\n".join(["first,second,same", *lines]))
        assert said in refused(*asked, *more) and not output.exists()
    (tmp_path / "pairs.txt").write_text(f"{a}\t{b}\n")
    with pytest.raises(UserError, match="line 1: .* no label"):
        read_pairs(str(tmp_path / "pairs.txt"), labelled=True)
