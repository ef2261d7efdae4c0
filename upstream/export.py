#!/usr/bin/env python3
"""Writes one of five series of changes onto a SpeechBrain checkout.

    python upstream/export.py CHECKOUT --series NAME

sampler   the batch sampler, with unit tests
metrics   EER and minDCF in O(N log N), with unit tests
losses    the loss, attention and balancing, with unit tests
voxceleb  the recipe of VoxCeleb; builds on sampler and losses
cnceleb   the recipe of CN-Celeb; builds on all

A series is this package's own files, with SpeechBrain's imports, the files in
its folder here, and additions to files of SpeechBrain. It writes what it
builds on too, where the checkout does not have it yet. But for EER and
minDCF nothing is replaced: before anything is written, a file that differs from what it should become is
an error, and what is there already stays.

The settings of the method are those of this package's recipes: in a yaml file
here, "!recipe name" and "!recipe object.name" stand for the value there.
"""

import argparse
import ast
import hashlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "speechbrain_scl"
PIECEWISE = ("sampler", "metrics", "losses")
BUILDS_ON = {
    **dict.fromkeys(PIECEWISE, ()),
    "voxceleb": ("sampler", "losses"),
    "cnceleb": (*PIECEWISE, "voxceleb"),
}
SERIES = tuple(BUILDS_ON)

# What becomes a file of its own, and what is added to SpeechBrain's
NNET = "speechbrain/nnet/loss"
PIECES = {
    "losses.py": f"{NNET}/supcon_margin_loss.py",
    "attention.py": f"{NNET}/class_aware_attention.py",
    "balancing.py": f"{NNET}/gradient_balancing.py",
}
GATHERING = ["world_size", "all_reduce_sum", "_all_reduce", "gather_rows"]
GATHERING += ["_all_rows", "rows_of_all"]
SAMPLER = ["SpeakerBatchSampler", "_around", "_least_like"]

# Links of the recipe of CN-Celeb, and what they point to
CNCELEB = "recipes/CNCeleb/SpeakerRec"
SCRIPT = "train_speaker_embeddings_scl.py"
LINKS = {
    f"{CNCELEB}/cnceleb_prepare.py": "../cnceleb_prepare.py",
    f"{CNCELEB}/{SCRIPT}": f"../../VoxCeleb/SpeakerRec/{SCRIPT}",
}

AUTHOR = "YOUR NAME 2026"
# Of the text of both functions that is replaced
METRICS_BEFORE = "88945f848e2e8507"


class CannotExport(Exception):
    """One line for the user."""


def additions(series):
    """What a series adds to files of SpeechBrain.

    Arguments
    ---------
    series : str
        Its name.

    Returns
    -------
    list of (str, str or None, str)
        The file, the text before which it goes (None: the end), and the text.
    """
    if series == "sampler":
        sampler = "speechbrain/dataio/sampler.py"
        head = '"""\n\nfrom collections'
        return [
            (sampler, head, f"  * {AUTHOR}\n"),
            (sampler, "from collections import", "import os\n"),
            (sampler, None, cut("samplers.py", SAMPLER)),
        ]
    if series == "losses":
        gathering = cut("distributed.py", GATHERING)
        return [("speechbrain/utils/distributed.py", None, gathering)]
    if series == "metrics":
        return []
    if series == "voxceleb":
        recipe = "recipes/VoxCeleb/SpeakerRec/README.md"
        text = (HERE / "voxceleb" / "readme_section.md").read_text("utf-8")
        row = (HERE / "voxceleb" / "row.csv").read_text("utf-8")
        return [
            (recipe, "## Speaker verification with PLDA\n", f"{text}\n\n"),
            ("tests/recipes/VoxCeleb.csv", None, row),
        ]
    listed = "[VoxCeleb](recipes/VoxCeleb) |"
    return [("README.md", listed, "[CN-Celeb](recipes/CNCeleb), ")]


def content_of(source, name):
    """A file's text, with the settings of this package's recipe.

    Arguments
    ---------
    source : Path
        The file here.
    name : Path
        What it becomes in the checkout.

    Returns
    -------
    str
        Its text.
    """
    text = source.read_text("utf-8")
    if source.suffix != ".yaml":
        return text
    recipe = HERE.parent / name.parent / "ecapa_scl.yaml"
    return re.sub(r"!recipe (\S+)", lambda m: setting(recipe, m[1]), text)


def setting(recipe, name):
    """A plain value of a yaml file.

    Arguments
    ---------
    recipe : Path
        The file.
    name : str
        A key of it, object.argument, or object.part.argument.

    Returns
    -------
    str
        As it is written there.
    """
    text = recipe.read_text("utf-8")
    *objects, key = name.split(".")
    indent = ""
    for thing in objects:
        inside = indent + "    "
        block = re.search(
            rf"(?m)^{indent}{thing}:.*\n((?:{inside}.*\n|#.*\n)*)", text
        )
        text, indent = block[1] if block else "", inside
    value = re.search(rf"(?m)^{indent}{key}: ([^!#\n]+?) *(#.*)?$", text)
    if not value:
        raise CannotExport(f"{recipe} has no plain value of {name}")
    return value[1]


def adapted(name):
    """A file of the package, by SpeechBrain's names."""
    text = (PACKAGE / name).read_text("utf-8")
    text = text.replace("speechbrain_scl.distr", "speechbrain.utils.distr")
    return text.replace("UserError", "ValueError")


def piece(name):
    """A file of the package as one of SpeechBrain's."""
    text = adapted(name)
    end = text.index('"""', 3)
    return f"{text[:end].rstrip()}\n\nAuthors\n * {AUTHOR}\n{text[end:]}"


def cut(name, definitions):
    """Some classes and functions of a file of the package."""
    text = adapted(name)
    lines = text.splitlines(keepends=True)
    return "".join(
        "\n\n" + "".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(text).body
        if getattr(node, "name", None) in definitions
    )


def with_metrics(text):
    """SpeechBrain's metric_stats.py with EER and minDCF of the series."""
    new = (HERE / "metrics" / "verification.py").read_text("utf-8")
    new = new[new.index("def _error_rates") :]
    if new in text:
        return text
    start, end = text.find("def EER("), text.find("class ClassificationStats")
    digest = hashlib.sha256(text[start:end].encode()).hexdigest()[:16]
    if digest != METRICS_BEFORE:
        raise CannotExport("metric_stats.py: EER and minDCF are not as known")
    head = text[:start].replace('\n"""\n', f'\n * {AUTHOR}\n"""\n', 1)
    return f"{head}{new}\n\n{text[end:]}"


def planned(checkout, series):
    """What the checkout's files become.

    Arguments
    ---------
    checkout : Path
        A checkout of SpeechBrain.
    series : str
        The last series to write.

    Returns
    -------
    dict
        Path -> its text, or the target of a symbolic link as a Path. What is
        there already is not in it.

    Raises
    ------
    CannotExport
        No checkout, or one with other contents than these changes expect.
    """
    if not (checkout / "speechbrain" / "nnet" / "losses.py").is_file():
        raise CannotExport(f"{checkout} is no checkout of SpeechBrain")
    files = {}
    names = (*BUILDS_ON[series], series)
    for folder in (HERE / name for name in names):
        for source in sorted(folder.glob("*/**/*")):
            if source.is_file():
                name = source.relative_to(folder)
                files[checkout / name] = content_of(source, name)
    if "losses" in names:
        files.update({checkout / to: piece(n) for n, to in PIECES.items()})
    if series == "cnceleb":
        files.update({checkout / at: Path(to) for at, to in LINKS.items()})
    differ = [
        str(target.relative_to(checkout))
        for target, content in files.items()
        if is_there(target) and present(target) != content
    ]
    if differ:
        raise CannotExport(
            f"{checkout}: {', '.join(differ)} differ from what would be "
            "written; move them away, or take a fresh branch"
        )
    changed = {}
    for name in names:
        for file, before, text in additions(name):
            target = checkout / file
            if not target.is_file():
                raise CannotExport(f"{target} is missing")
            now = changed.get(target, present(target))
            changed[target] = added(now, before, text, target)
    if "metrics" in names:
        target = checkout / "speechbrain" / "utils" / "metric_stats.py"
        changed[target] = with_metrics(present(target))
    files.update(changed)
    return {t: c for t, c in files.items() if present(t) != c}


def added(now, before, text, target):
    """A file's text with the addition, once."""
    if text.strip() in now:
        return now
    if before is None:
        return now.rstrip("\n") + "\n" + text
    if now.count(before) != 1:
        raise CannotExport(
            f"{target}: {before.strip()!r} should be there once, to add "
            f"{text.splitlines()[0].strip()!r} before it"
        )
    return now.replace(before, text + before)


def is_there(path):
    """Whether there is a file or a link, be it broken."""
    return path.is_symlink() or path.exists()


def present(path):
    """What ``planned`` compares with: a text, a link's target, or None."""
    if path.is_symlink():
        return Path(path.readlink())
    return path.read_text("utf-8") if path.is_file() else None


def write(files):
    """Writes them.

    Arguments
    ---------
    files : dict
        As ``planned`` returns them.
    """
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_text(content, encoding="utf-8")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    parser.add_argument("--series", choices=SERIES, required=True)
    args = parser.parse_args()
    try:
        files = planned(args.checkout, args.series)
    except CannotExport as error:
        sys.exit(f"error: {error}")
    write(files)
    for path in files:
        print(path.relative_to(args.checkout))
    print(f"{len(files)} files written; CONTRIBUTING.md says how to check them")


if __name__ == "__main__":
    main()
