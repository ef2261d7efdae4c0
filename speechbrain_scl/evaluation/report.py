"""What a verification run leaves: metrics.json, det.png and report.html."""

import os

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.provenance import (
    read_suspects,
    read_training_log,
)
from speechbrain_scl.files import atomic_write, write_json

TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
MISSING = "–"


def write_report(folder, lists, facts, score_files, training=None):
    """Writes a run's figures, pictures and circumstances; needs no network.

    ``lists`` has by name what ``results.measure`` returns, ``score_files`` the
    names of files in the run's folder, ``facts`` what metrics.json says of the
    run; ``training`` is the train_log.txt of the model.
    """
    metrics = {name: found for name, (found, _) in lists.items()}
    # What took hours to compute comes before what is drawn of it.
    write_json(
        os.path.join(folder, "metrics.json"), {"trials": metrics, **facts}
    )
    det = plots.det(lists)
    plots.save(det, os.path.join(folder, "det.png"))
    first = next(iter(metrics.values()))
    epochs = read_training_log(training) if training else {}
    suspects = read_suspects(os.path.dirname(training)) if training else []
    for row in suspects:
        row["wav"] = row["wav"] and os.path.relpath(row["wav"], folder)
    write_page(
        os.path.join(folder, "report.html"),
        "report.html",
        metrics=metrics,
        p_target=first["p_target"],
        threshold=Calibration.threshold(first["p_target"]),
        calibrated="cllr" in first,
        histograms={
            name: plots.svg(
                plots.histogram(
                    counts, plots.thresholds(found, found["p_target"])
                ),
                f"Histogram of the scores of {name}",
            )
            for name, (found, counts) in lists.items()
        },
        reaching={
            name: counts.reaching(Calibration.threshold(found["p_target"]))
            for name, (found, counts) in lists.items()
        },
        score_files=score_files,
        det=plots.svg(det, "Detection error trade-off"),
        curves=[
            plots.svg(figure, f"{title} over the epochs")
            for title, figure in plots.training_curves(epochs).items()
        ],
        suspects=suspects,
        training=training and os.path.relpath(training, folder),
        run=facts["run"],
        digest=facts["model_sha256"],
        options={
            key: value
            for key, value in facts.items()
            if key not in ("run", "model", "model_sha256")
        },
    )


def write_tensorboard(folder, lists, vectors, speaker_of):
    """The scores of ``lists`` as histograms, and embeddings by utterance's name,
    coloured by speaker, in the projector."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard: pip install tensorboard") from error
    with SummaryWriter(folder) as writer:
        for name, (_, counts) in lists.items():
            x, edges = counts.scores, np.linspace(*counts.scores[[0, -1]], 61)
            for kind in ("targets", "impostors"):
                n = getattr(counts, kind)
                writer.add_histogram_raw(
                    f"scores of {kind}/{name}",
                    *(x[0], x[-1], n.sum(), n @ x, n @ x**2),
                    edges[1:].tolist(),
                    np.histogram(x, edges, weights=n)[0].tolist(),
                )
        writer.add_embedding(
            np.stack(list(vectors.values())),
            [[name, speaker_of(name)] for name in vectors],
            metadata_header=["utterance", "speaker"],
            tag="embeddings",
        )


def write_page(path, template, **content):
    """Fills a template: its name, or its path."""
    with atomic_write(path) as file:
        file.write(load_template(template).render(content))


def load_template(template):
    """A template, which escapes whatever is no markup and spells figures."""
    import jinja2

    folder, name = os.path.split(template)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder or TEMPLATES, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        rate=lambda x: MISSING if x is None else f"{100 * x:.2f}",  # per cent
        cost=lambda x: MISSING if x is None else f"{x:.3f}",
    )
    return environment.get_template(name)
