#!/usr/bin/env python3
"""Writes series of changes onto a SpeechBrain checkout, to contribute them.

    python upstream/export.py CHECKOUT --author "Ada Lovelace 2026" --series NAME ...

sampler   the batch sampler, with unit tests
metrics   EER and minDCF in O(N log N), with unit tests
losses    the loss, attention and balancing, with unit tests
voxceleb  contrastive training in the recipe of VoxCeleb; needs sampler, losses
cnceleb   the recipe of CN-Celeb; needs voxceleb, metrics

A series is this package's own code with SpeechBrain's imports, a patch of
SpeechBrain's files (NAME.patch), and the new files of its folder (NAME/). A
checkout where it does not fit is refused before anything of it is written.
"""

import argparse
import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "speechbrain_scl"
SERIES = ("sampler", "metrics", "losses", "voxceleb", "cnceleb")
AUTHOR = "YOUR NAME 2026"

# What of the package becomes a file of its own, and what is appended to one
NNET = "speechbrain/nnet/loss"
PIECES = {
    f"{NNET}/supcon_margin_loss.py": "losses.py",
    f"{NNET}/class_aware_attention.py": "attention.py",
    f"{NNET}/gradient_balancing.py": "balancing.py",
}
APPENDED = {
    "sampler": (
        "speechbrain/dataio/sampler.py",
        "samplers.py",
        ("SpeakerBatchSampler", "_least_like"),
    ),
    "losses": (
        "speechbrain/utils/distributed.py",
        "distributed.py",
        (
            *("world_size", "all_reduce_sum", "_all_reduce"),
            *("gather_rows", "_all_rows", "rows_of_all"),
        ),
    ),
}


class CannotExport(Exception):
    """One line for the user."""


def adapted(name):
    """A file of the package with SpeechBrain's names."""
    text = (PACKAGE / name).read_text("utf-8")
    text = text.replace("speechbrain_scl.distr", "speechbrain.utils.distr")
    return text.replace("UserError", "ValueError")


def piece(name):
    """A file of the package as one of SpeechBrain's, with its authors."""
    head, rest = adapted(name)[3:].split('"""', 1)
    return f'"""{head.rstrip()}\n\nAuthors\n * {AUTHOR}\n"""{rest}'


def cut(name, definitions):
    """Some classes and functions of a file of the package."""
    text = adapted(name)
    lines = text.splitlines(keepends=True)
    return "".join(
        "\n\n" + "".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(text).body
        if getattr(node, "name", None) in definitions
    )


def new_files(series):
    """The files that a series adds.

    Arguments
    ---------
    series : str
        Its name.

    Returns
    -------
    dict
        Path in the checkout -> text.
    """
    folder = HERE / series
    files = {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file()
    }
    if series == "losses":
        files.update({path: piece(name) for path, name in PIECES.items()})
    return files


def export(checkout, series, author=AUTHOR):
    """Writes one series.

    Arguments
    ---------
    checkout : Path
        A checkout of SpeechBrain, with the series that this one needs.
    series : str
        Its name.
    author : str
        Whose name the files get.

    Raises
    ------
    CannotExport
        Something is there already, or is not as the series expects.
    """
    if not (checkout / "speechbrain" / "core.py").is_file():
        raise CannotExport(f"{checkout} is no checkout of SpeechBrain")
    files = new_files(series)
    there = [path for path in files if (checkout / path).exists()]
    if there:
        raise CannotExport(f"{checkout} has {', '.join(there)} already")
    patch = HERE / f"{series}.patch"
    if patch.is_file():
        done = subprocess.run(
            ["git", "apply", "-"],
            cwd=checkout,
            # The checkout is its own repository, or in none.
            env={**os.environ, "GIT_CEILING_DIRECTORIES": checkout.parent},
            input=patch.read_text("utf-8").replace(AUTHOR, author),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise CannotExport(f"{patch.name}: {done.stderr.strip()}")
    if series in APPENDED:
        target, name, definitions = APPENDED[series]
        with (checkout / target).open("a", encoding="utf-8") as file:
            file.write(cut(name, definitions))
    for path, text in files.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        text = text.replace(AUTHOR, author)
        (checkout / path).write_text(text, encoding="utf-8")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("--series", choices=SERIES, nargs="+", required=True)
    parser.add_argument("--author", default=AUTHOR, help="as in the files")
    args = parser.parse_args()
    for series in args.series:
        try:
            export(args.checkout.resolve(), series, args.author)
        except CannotExport as error:
            sys.exit(f"error: {series}: {error}")
    print("written; CONTRIBUTING.md says how to check it")


if __name__ == "__main__":
    main()
