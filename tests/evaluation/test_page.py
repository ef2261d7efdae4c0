"""The HTML page: nothing from outside is taken for markup."""

import numpy as np

from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.page import write_page
from speechbrain_scl.evaluation.report import measure
from speechbrain_scl.evaluation.trials import read_trials

NAME = "<script>alert(1)</script>"


def test_names_are_text_and_missing_figures_are_dashes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("1 a/1 a/2\n0 a/1 b/1\n0 b/1 a/2\n1 b/1 b/2\n")
    trials = read_trials(str(path))
    scores = np.array([2.0, -1.0, 0.5, 1.0])
    found = measure(
        trials,
        scores,
        lambda name: name.split("/")[0],
        n_resamples=0,
        calibrated=True,
        conditions={NAME: trials.labels},  # targets only: no rate
    )
    histogram = plots.svg(plots.score_histogram(scores, trials.labels))
    det = plots.svg(plots.det({NAME: (scores, trials.labels)}))
    target = tmp_path / "report.html"
    write_page(str(target), {NAME: found}, det, {NAME: histogram}, {NAME: NAME})
    text = target.read_text(encoding="utf-8")
    assert NAME not in text and "&lt;script&gt;" in text
    assert "<td>-</td>" in text and "C<sub>llr</sub>" in text
    assert "http" not in text.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "").replace(
        "https://matplotlib.org", ""
    )
