#!/usr/bin/env python3
"""Pictures of finished runs, one command each.

    python benchmarks/pictures.py scores OUT.png LIST RUN [RUN ...]
        target and impostor scores of one trial list, a panel per run
    python benchmarks/pictures.py training OUT.png RUN [RUN ...]
        losses, balancing weights, attention and gradient norms per epoch
    python benchmarks/pictures.py budget OUT.png RUN [RUN ...]
        EER against the epochs of trainings of different length; an
        <objective>_<epochs> counts as that objective
    python benchmarks/pictures.py embeddings OUT.png RUN METADATA.csv
        a 2-d view (t-SNE) of the test embeddings by speaker and by language
    python benchmarks/pictures.py attention OUT.png RUN NOISY.csv CLEAN.csv
        attention of rightly and of wrongly labelled training utterances

A RUN is a training's output folder with verification/ in it, as
benchmarks/ladder.py leaves them: OUTPUT/<objective>/<seed>.
"""

import argparse
import csv
import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.manifold import TSNE

from speechbrain.inference import EncoderClassifier
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.evaluation.plots import IMPOSTOR, TARGET, draw_scores
from speechbrain_scl.evaluation.tally import Tally
from speechbrain_scl.training.crops import read_crop

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402


def main():
    """Draws what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for draw, arguments in PICTURES.items():
        kind = kinds.add_parser(draw.__name__, help=draw.__doc__)
        kind.add_argument("output", type=Path)
        for name, options in arguments.items():
            kind.add_argument(name, **options)
        kind.set_defaults(draw=draw)
    args = vars(parser.parse_args())
    draw, output = args.pop("draw"), args.pop("output")
    del args["kind"]
    figure = draw(**args)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    print(output)


def scores(list, runs):
    """Target and impostor scores of one trial list, a panel per run."""
    figure, axes = plt.subplots(
        1,
        len(runs),
        figsize=(1 + 4 * len(runs), 3.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, run in zip(axes[0], runs):
        found, labels = read_scores(run, list)
        draw_scores(axis, Tally.of(found, labels))
        axis.set_title(title(run), fontsize=10)
    figure.suptitle(list, fontsize=10)
    return figure


def training(runs):
    """Losses, balancing weights, attention and gradient norms per epoch."""
    panels = {
        "loss": ["classification", "contrastive"],
        "balancing weight": ["weight_classification", "weight_contrastive"],
        "gradient norm at the embedding": [
            "grad_norm_classification",
            "grad_norm_contrastive",
        ],
        "mean attention": ["attention"],
        "validation EER (%)": ["EER"],
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3 * len(panels), 3.2), layout="constrained"
    )
    for axis, (name, keys) in zip(axes, panels.items()):
        for color, key in zip((TARGET, IMPOSTOR), keys):
            for run in runs:
                curve = read_log(run, key)
                if name.startswith("validation"):
                    curve = [100 * rate for rate in curve]
                label = None if run is not runs[0] else key.split("_")[-1]
                axis.plot(
                    range(1, len(curve) + 1), curve, color=color, label=label
                )
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(keys) > 1:
            axis.legend(fontsize=8)
        if name == "balancing weight":
            axis.set_ylim(0, 1)
    figure.suptitle(f"{', '.join(map(title, runs))} (a line each)", fontsize=10)
    return figure


def budget(runs):
    """EER against the epochs of trainings of different length."""
    curves = {}
    for run in runs:
        path = run / "verification" / "metrics.json"
        if not path.is_file():
            raise UserError(f"{path}: not there; is {run} a tested run?")
        trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
        rates = {name: 100 * found["eer"] for name, found in trials.items()}
        rates["geometric mean"] = np.exp(np.mean(np.log(list(rates.values()))))
        # <objective>/<seed>, and below it the fold
        seed = run if run.name.isdigit() else run.parent
        objective = re.sub(r"_\d+$", "", seed.parent.name)
        epochs = len(read_log(run, "EER"))
        for name, rate in rates.items():
            curves.setdefault(name, {}).setdefault(objective, []).append(
                (epochs, rate)
            )
    figure, axes = plt.subplots(
        1,
        len(curves),
        figsize=(3 * len(curves), 3.2),
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, lines) in zip(axes[0], curves.items()):
        for objective, points in lines.items():
            axis.plot(*zip(*sorted(points)), "o-", label=objective)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("epochs")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(0)
    axes[0][0].set_ylabel("EER (%)")
    axes[0][0].legend(fontsize=8)
    return figure


def embeddings(run, metadata):
    """A 2-d view (t-SNE) of the test embeddings by speaker and by language."""
    path = run / "verification" / "test_embeddings.npz"
    if not path.is_file():
        raise UserError(
            f"{path}: not there; run speaker_verification_cosine.py first"
        )
    with np.load(path, allow_pickle=False) as stored:
        names, vectors = stored["ids"], stored["embeddings"]
    speakers = np.array([name.split("/")[0] for name in names])
    with open(metadata, encoding="utf-8", newline="") as file:
        language_of = {
            row["speaker"]: " ".join(
                filter(None, (row["language"], row.get("accent", "")))
            )
            for row in csv.DictReader(file)
        }
    unknown = sorted(set(speakers) - set(language_of))
    if unknown:
        raise UserError(
            f"{metadata}: {len(unknown)} test speakers are not in its column "
            f"speaker; the first is {unknown[0]}"
        )
    languages = np.array([language_of[s] for s in speakers])
    points = TSNE(
        metric="cosine", init="pca", perplexity=30, random_state=0
    ).fit_transform(vectors)

    figure, axes = plt.subplots(
        1, 2, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
    )
    colors = plt.get_cmap("tab20").colors
    markers = "os^vD*Px"
    for i, speaker in enumerate(np.unique(speakers)):
        axes[0].plot(
            *points[speakers == speaker].T,
            markers[i // len(colors) % len(markers)],
            ms=4,
            color=colors[i % len(colors)],
        )
    axes[0].set_title(f"{len(np.unique(speakers))} speakers", fontsize=10)
    for color, language in zip(
        (TARGET, IMPOSTOR, *colors), np.unique(languages)
    ):
        chosen = languages == language
        axes[1].plot(
            *points[chosen].T,
            "o",
            ms=4,
            color=color,
            label=f"{language} ({chosen.sum()})",
        )
    axes[1].legend(fontsize=8)
    axes[1].set_title("languages", fontsize=10)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(
        f"{title(run)}: {len(names)} test utterances, t-SNE of the cosine",
        fontsize=10,
    )
    return figure


def attention(run, noisy, clean, scale):
    """Attention of rightly and of wrongly labelled training utterances."""
    right = {u.ID: u.spk_id for u in read_manifest(clean)}
    utterances = read_manifest(noisy)
    model = EncoderClassifier.from_hparams(
        source=str(run / "inference"), savedir=str(run / "inference")
    )
    classes = model.hparams.label_encoder.lab2ind
    rate = model.hparams.sample_rate
    vectors = []
    with torch.no_grad():
        for u in utterances:
            wav = read_crop(u.wav, u.start, u.stop, 3 * rate)
            vectors.append(model.encode_batch(wav[None])[0, 0])
    labels = torch.tensor([classes[u.spk_id] for u in utterances])
    weights = ClassAwareAttention(scale)(
        torch.stack(vectors), labels, model.mods.classifier.weight
    ).detach()
    wrong = torch.tensor([right[u.ID] != u.spk_id for u in utterances])
    if not wrong.any() or wrong.all():
        raise UserError(
            f"{noisy}: {int(wrong.sum())} of {len(wrong)} labels differ from "
            f"{clean}; some must, some must not"
        )

    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    bins = np.linspace(0, 1, 41)
    for name, color, chosen in (
        ("rightly", TARGET, ~wrong),
        ("wrongly", IMPOSTOR, wrong),
    ):
        found = weights[chosen]
        text = (
            f"{len(found)} {name} labelled: mean {found.mean():.2f}, "
            f"median {found.median():.2f}"
        )
        print(text)
        axis.hist(found, bins, density=True, alpha=0.6, color=color, label=text)
    axis.set_xlabel("attention of a training utterance")
    axis.set_ylabel("density")
    axis.legend(fontsize=8)
    axis.set_title(title(run), fontsize=10)
    return figure


PATH = {"type": Path}
RUNS = {"type": Path, "nargs": "+", "metavar": "RUN"}
PICTURES = {
    scores: {"list": {}, "runs": RUNS},
    training: {"runs": RUNS},
    budget: {"runs": RUNS},
    embeddings: {"run": PATH, "metadata": PATH},
    attention: {
        "run": PATH,
        "noisy": {},
        "clean": {},
        "--scale": {"type": float, "default": 10.0},
    },
}


def title(run):
    """A run's objective and seed."""
    return f"{run.parent.name}, seed {run.name}"


def read_log(run, key):
    """One value per epoch from the training log."""
    path = run / "train_log.txt"
    if not path.is_file():
        raise UserError(f"{path}: not there; is {run} a training's output?")
    text = path.read_text(encoding="utf-8")
    return [float(x) for x in re.findall(rf" {key}: ([\d.e+-]+)", text)]


def read_scores(run, name):
    """Scores and labels of one trial list."""
    folder = run / "verification"
    path = folder / f"scores-{name}.txt"
    if not path.is_file():
        path = folder / "scores.txt"
    if not path.is_file():
        raise UserError(
            f"{folder}: no scores-{name}.txt; run "
            "speaker_verification_cosine.py first"
        )
    with open(path, encoding="utf-8") as file:
        rows = [line.split() for line in file]
    return (
        np.array([float(row[-1]) for row in rows]),
        np.array([row[0] == "1" for row in rows]),
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
