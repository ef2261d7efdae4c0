"""Labelled pairs of one's own become a threshold, with its errors."""

import itertools
import json

import pytest

from speechbrain_scl.command_line.lists import read_pairs
from speechbrain_scl.command_line.main import main
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


@pytest.fixture
def said(capsys):
    def run(*arguments):
        main([*map(str, arguments)])
        return capsys.readouterr().out

    return run


def test_a_threshold_of_ones_own(trained, pairs, tmp_path, said, spoken):
    model, output = trained / "inference", tmp_path / "mine.json"
    asked = ["calibrate", model, pairs, "--output", output]
    found = json.loads(said(*asked, "--json"))
    assert found["n_speakers"] == 10 and found["n_targets"] == 10
    for name in ("miss", "false_alarm"):
        low, high = found[f"{name}_ci"]
        assert 0 <= low <= found[name] <= high <= 1
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    decision = Calibration.load(output).decide(0, 0.5)
    assert decision.score_threshold == found["threshold"]
    text = said(*asked)
    assert f"from a cosine of {found['threshold']:.3f} on" in text
    assert "55 pairs of 10 speakers" in text and "95 % interval" in text
    verifier = SpeakerVerifier.load(model, calibration=str(output))
    decided = verifier.verify(*spoken[:2])
    assert decided.threshold == pytest.approx(found["threshold"])
    assert decided.miss is not None


def test_pairs_that_cannot_be_used(untrained, pairs, tmp_path):
    output = tmp_path / "mine.json"

    def refused(*lines, more=()):
        pairs.write_text("\n".join(["first,second,same", *lines]))
        asked = ["calibrate", untrained, str(pairs), "--output", str(output)]
        with pytest.raises(SystemExit) as ended:
            main([*asked, *more])
        assert ended.value.code == 2 and not output.exists()
        return str(ended.value)

    a, b, c = pairs.read_text().splitlines()[-3:]
    (a, b), (c, _) = a.split(";")[:2], c.split(";")[:2]
    ab, bc, ac = f"{a},{b}", f"{b},{c}", f"{a},{c}"
    assert "line 2" in refused(f"{ab},yes")
    assert "link them as one" in refused(f"{ab},1", f"{bc},1", f"{ac},0")
    assert "between 0 and 1" in refused(
        f"{ab},1", f"{ac},0", more=["--p-target=1"]
    )
    nowhere = ["--output", str(tmp_path / "no" / "x.json")]
    assert "no folder" in refused(f"{ab},1", more=nowhere)
    (tmp_path / "pairs.txt").write_text(f"{a}\t{b}\n")
    with pytest.raises(UserError, match="line 1: .* no label"):
        read_pairs(str(tmp_path / "pairs.txt"), labelled=True)
