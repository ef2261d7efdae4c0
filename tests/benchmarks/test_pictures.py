"""The pictures, from runs made of known figures."""

import json
import sys

import pictures
import pytest

from speechbrain_scl.errors import UserError


def test_scores_have_a_histogram_per_class(tmp_path, monkeypatch, capsys):
    run, out = tmp_path / "balancing" / "7", tmp_path / "new" / "scores.png"
    (run / "verification").mkdir(parents=True)
    text = "1 a/1/x a/2/y 0.8\n0 a/1/x b/2/y 0.1\n0 b/1/x a/2/y -0.2\n"
    (run / "verification" / "scores-hard.txt").write_text(text)
    figure = pictures.scores("hard", [run, run])
    assert len(figure.axes) == 2
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert {"1 target trials", "2 impostor trials", "EER 0.00 %"} < set(labels)
    assert figure.axes[0].get_title() == "balancing, seed 7"
    command = ["pictures.py", "scores", str(out), "hard", str(run)]
    monkeypatch.setattr(sys, "argv", command)
    pictures.main()
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size > 5000
    with pytest.raises(UserError, match="scores.txt: not there"):
        pictures.scores("easy", [run])


def test_a_training_is_a_point(tmp_path):
    runs = [tmp_path / name / "1" / "fold1" for name in ("aam_2", "full_1")]
    for n, folder in zip((2, 1), runs):
        (folder / "verification").mkdir(parents=True)
        said = "weight_classification: 0.6, weight_contrastive: 0.2"
        lines = (f"epoch: {i + 1} - train {said}\n" for i in range(n))
        (folder / "train_log.txt").write_text("".join(lines))
        found = {"trials": {"a": {"eer": 0.1}, "b": {"eer": 0.4 / n}}}
        path = folder / "verification" / "metrics.json"
        path.write_text(json.dumps(found))
    figure = pictures.over(runs, "budget")
    assert [axis.get_title() for axis in figure.axes][-1] == "geometric mean"
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    lines = dict(zip(labels, handles))
    assert set(lines) == {"aam", "full"}
    (point,) = lines["aam"].get_xydata()
    assert point == pytest.approx([2, 100 * (0.1 * 0.2) ** 0.5])
    assert lines["full"].get_xdata() == [1]
    figure = pictures.over(runs, "balance")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    assert [line.get_xdata() for line in handles] == [[0.25], [0.25]]
    assert labels == ["aam_2", "full_1"]
    (runs[0] / "train_log.txt").unlink()
    with pytest.raises(UserError, match="train_log.txt: not there"):
        pictures.over(runs, "budget")
