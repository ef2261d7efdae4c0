"""The pictures, from runs made of known figures; and the label noise."""

import json
import sys
from pathlib import Path

import pytest

from speechbrain_scl.data.manifest import Utterance
from speechbrain_scl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import mislabel  # noqa: E402
import pictures  # noqa: E402


@pytest.fixture
def run(tmp_path):
    """The folder of a run: 2 epochs, one trial list of 8 x 8 utterances."""
    folder = tmp_path / "balancing" / "7"
    (folder / "verification").mkdir(parents=True)
    (folder / "train_log.txt").write_text(
        "epoch: 1, lr: 1e-03 - train loss: 2.0, train classification: 3.5, "
        "train weight_contrastive: 4.00e-01 - valid EER: 3.00e-01\n"
        "epoch: 2, lr: 1e-03 - train loss: 1.0, train classification: 2.5, "
        "train weight_contrastive: 5.00e-01 - valid EER: 1.00e-01\n"
    )
    (folder / "verification" / "scores-hard.txt").write_text(
        "1 a/1/x a/2/y 0.8\n0 a/1/x b/2/y 0.1\n0 b/1/x a/2/y -0.2\n"
    )
    return folder


def test_scores_have_a_histogram_per_class(run):
    figure = pictures.scores("hard", [run, run])
    assert len(figure.axes) == 2
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {"1 target trials", "2 impostor trials", "EER 0.00 %"} < set(labels)
    assert figure.axes[0].get_title() == "balancing, seed 7"
    with pytest.raises(UserError, match="no scores-easy.txt"):
        pictures.scores("easy", [run])


def test_the_budget_is_a_point_per_training(run, tmp_path):
    runs = [tmp_path / name / "1" / "fold1" for name in ("aam_2", "full_1")]
    for n, folder in zip((2, 1), runs):
        (folder / "verification").mkdir(parents=True)
        (folder / "train_log.txt").write_text(" valid EER: 0.5\n" * n)
        (folder / "verification" / "metrics.json").write_text(
            json.dumps({"trials": {"a": {"eer": 0.1}, "b": {"eer": 0.4 / n}}})
        )
    figure = pictures.budget(runs)
    assert [axis.get_title() for axis in figure.axes][-1] == "geometric mean"
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    lines = dict(zip(labels, handles))
    assert set(lines) == {"aam", "full"}
    assert lines["aam"].get_xydata().tolist() == [
        [2.0, pytest.approx(100 * (0.1 * 0.2) ** 0.5)]
    ]
    assert lines["full"].get_xdata() == [1]
    with pytest.raises(UserError, match="is .* a tested run"):
        pictures.budget([run])


def test_one_command_per_picture(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "scores.png"
    monkeypatch.setattr(
        sys, "argv", ["pictures.py", "scores", str(out), "hard", str(run)]
    )
    pictures.main()
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size > 5000


def test_the_share_is_mislabelled_and_nothing_else():
    clean = [
        Utterance(f"{s}-{i}", 1.0, f"{s}{i}.wav", 0, 16000, s)
        for s in "abcde"
        for i in range(8)
    ]
    noisy, n_changed = mislabel.mislabel(clean, 0.3, seed=4)
    assert n_changed == 12
    assert sum(a.spk_id != b.spk_id for a, b in zip(clean, noisy)) == 12
    assert [u.ID for u in noisy] == [u.ID for u in clean]
    assert {u.spk_id for u in noisy} <= set("abcde")
    assert mislabel.mislabel(clean, 0.3, seed=4)[0] == noisy
    assert mislabel.mislabel(clean, 0.3, seed=5)[0] != noisy
    assert mislabel.mislabel(clean, 0.0, seed=4) == (clean, 0)
