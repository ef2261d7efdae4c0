"""The report of a verification run as one HTML page."""

import os

from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.pages import training_log, wording
from speechbrain_scl.evaluation.pages.rendering import picture, write_page


def write_report(path, metrics, scored, facts, score_files, training=None):
    """Writes a run's figures, pictures and circumstances; needs no network.

    Arguments
    ---------
    path : str
        The file. It links to its neighbours score_files, metrics.json and
        det.png.
    metrics : dict
        List name -> what ``report.measure`` returned.
    scored : dict
        List name -> Trials with scores.
    facts : dict
        What metrics.json says of the run: ``run`` (as ``describe_run``
        returns it), ``model_sha256`` and the options of the scoring.
    score_files : dict
        List name -> name of the file of its scores.
    training : str or None
        The train_log.txt of the training that made the model.
    """
    first, several = next(iter(metrics.values())), len(metrics) > 1
    p_target, calibrated = first["p_target"], "cllr" in first
    lists = [
        {
            "name": name,
            "found": found,
            "conditions": found.get("conditions", {}),
            "sentences": [
                wording.error_rate(found) if several else "",
                wording.calibration(found) if several and calibrated else "",
                wording.decision(found, scored[name]),
                *map(wording.remark, found["remarks"]),
            ],
            "histogram": picture(
                plots.score_histogram(
                    scored[name].scores, scored[name].labels, p_target
                ),
                f"Histogram of the scores of {name}",
            ),
            "scores": score_files[name],
        }
        for name, found in metrics.items()
    ]
    curves = {}
    if training:
        epochs = training_log.read_training_log(training)
        figures = training_log.training_curves(epochs) if epochs else {}
        curves = {
            title: picture(figure, f"{title} over the epochs")
            for title, figure in figures.items()
        }
        training = os.path.relpath(training, os.path.dirname(path))
    options = {
        key: value
        for key, value in facts.items()
        if key not in ("run", "model", "model_sha256")
    }
    write_page(
        path,
        "report.html",
        headline=wording.headline(metrics),
        status="" if several and calibrated else wording.calibration(first),
        lists=lists,
        calibrated=calibrated,
        says=any(any(x["sentences"]) or x["conditions"] for x in lists),
        p_target=p_target,
        det=picture(plots.det(scored, p_target), "Detection error trade-off"),
        curves=curves,
        training=training,
        run=facts["run"],
        options=options,
        digest=facts["model_sha256"],
    )
