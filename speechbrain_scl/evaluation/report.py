"""What a verification run leaves: metrics.json, det.png and report.html."""

import csv
import datetime
import importlib.metadata
import math
import os
import platform
import re
import shlex
import sys

import numpy as np

import speechbrain_scl
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.files import atomic_write, write_json

TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
MISSING = "–"
_PACKAGES = ("speechbrain", "torch", "torchaudio", "numpy")


def write_report(folder, lists, facts, score_files, training=None):
    """Writes a run's figures, pictures and circumstances; needs no network.
    ``lists`` has by name what ``results.measure`` returns, ``score_files`` the
    names of files in the folder, ``facts`` what metrics.json says of the run;
    ``training`` is the train_log.txt of the model."""
    metrics = {name: found for name, (found, _) in lists.items()}
    # What took hours to compute comes before what is drawn of it.
    write_json(
        os.path.join(folder, "metrics.json"), {"trials": metrics, **facts}
    )
    det = plots.det(lists)
    plots.save(det, os.path.join(folder, "det.png"))
    histograms, reaching = {}, {}
    for name, (found, counts) in lists.items():
        p_target = found["p_target"]
        figure = plots.histogram(counts, plots.thresholds(found, p_target))
        title = f"Histogram of the scores of {name}"
        histograms[name] = plots.svg(figure, title)
        threshold = Calibration.threshold(p_target)
        reaching[name] = counts.reaching(threshold)
    epochs = read_training_log(training) if training else {}
    suspects = _read_suspects(os.path.dirname(training)) if training else []
    for row in suspects:
        row["wav"] = row["wav"] and os.path.relpath(row["wav"], folder)
    write_page(
        os.path.join(folder, "report.html"),
        "report.html",
        metrics=metrics,
        threshold=threshold,
        histograms=histograms,
        reaching=reaching,
        score_files=score_files,
        det=plots.svg(det, "Detection error trade-off"),
        curves=[
            plots.svg(figure, f"{title} over the epochs")
            for title, figure in plots.training_curves(epochs).items()
        ],
        suspects=suspects,
        training=training and os.path.relpath(training, folder),
        facts=facts,
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


def write_page(path, template, **content):
    """Fills a template: its name, or its path."""
    with atomic_write(path) as file:
        file.write(load_template(template).render(content))


def describe_call():
    """Date (with the offset from UTC), command and versions of this process."""
    program = os.path.basename(sys.argv[0])
    return {
        "date": datetime.datetime.now().astimezone().strftime("%F %H:%M %z"),
        "command": shlex.join(["python", program, *sys.argv[1:]]),
        "versions": {
            "speechbrain_scl": speechbrain_scl.__version__,
            "Python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    }


def find_training_log(folder):
    """The train_log.txt beside an inference folder, or None."""
    beside = os.path.dirname(os.path.abspath(folder))
    path = os.path.join(beside, "train_log.txt")
    return path if os.path.isdir(folder) and os.path.isfile(path) else None


def read_training_log(path):
    """Epoch -> name -> number. Of an epoch that was run again, the last; what is
    damaged is left out."""
    epochs = {}
    number = r"(\w+): (-?\d+(?:\.\d*)?(?:e[+-]?\d+)?|nan|-?inf)\b"
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = re.findall(number, line)
            values = {name: float(value) for name, value in found}
            if math.isfinite(values.get("epoch", math.nan)):
                epochs[int(values["epoch"])] = values
    return dict(sorted(epochs.items()))


def _read_suspects(folder, most=10):
    """The worst rows of a training run's suspects.csv, as dicts, with ``wav``, the
    recording: utterances that another speaker's class fits better."""
    found = _rows(os.path.join(folder, "suspects.csv"))[:most]
    manifest = _rows(os.path.join(folder, "save", "train.csv")) if found else []
    wavs = {row["ID"]: row["wav"] for row in manifest}
    return [{**row, "wav": wavs.get(row["utterance"])} for row in found]


def _rows(path):
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return list(csv.DictReader(file))
