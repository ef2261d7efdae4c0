#!/usr/bin/env python3
"""Training corpora against test lists.

    python benchmarks/matrix.py results/matrix.md english=results/english \
        mandarin=results/mandarin

Each NAME=FOLDER says what a model was trained on, and is an --output of
benchmarks/ladder.py or of speaker_verification_cosine.py; one NAME may come
several times, for several lists. A cell is the EER in per cent: of a ladder
mean and standard deviation over the seeds and, below the first objective, the
difference to it with the paired interval over test speakers; of a verification
its interval. Pairs of languages have columns of their own where the
verification had them (--metadata, --conditions=language).
"""

import argparse
import csv
import json
import sys
from pathlib import Path

from ladder_report import OVERALL, interval, spread

from speechbrain_scl.files import written_aside


def main():
    """Reads the folders and writes one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the table, Markdown")
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    args = parser.parse_args()
    rows, columns = {}, {}
    for named in args.folders:
        name, _, folder = named.partition("=")
        folder = Path(folder)
        ran = (folder / "metrics.json").is_file()
        found = read_verification(folder) if ran else read_ladder(folder)
        for objective, cells in found.items():
            row = rows.setdefault((name, objective), {})
            if twice := row.keys() & cells.keys():
                sys.exit(f"error: {folder}: {name} has {sorted(twice)} already")
            row.update(cells)
            columns.update(dict.fromkeys(cells))
    lines = [
        "| trained on | objective | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for (name, objective), cells in rows.items():
        row = [name, objective, *(cells.get(column, "") for column in columns)]
        lines.append("| " + " | ".join(row) + " |")
    table = "\n".join(lines) + "\n"
    with written_aside(args.output) as file:
        file.write(table)
    print(table)


def read_verification(folder):
    """List or pair of languages -> cell, of a model of unnamed objective."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    cells = {}
    for name, found in metrics["trials"].items():
        cells[name] = f"{100 * found['eer']:.2f}"
        if found.get("eer_ci"):
            low, high = (100 * bound for bound in found["eer_ci"])
            cells[name] += f" ({low:.2f} to {high:.2f})"
        for condition, part in found.get("conditions", {}).items():
            if condition.startswith("language: "):
                pair = condition.removeprefix("language: ")
                cells[f"{name}, {pair}"] = f"{100 * part['eer']:.2f}"
    return {"": cells}


def read_ladder(folder):
    """Objective -> list -> cell, validation left out."""
    rates, cells = {}, {}
    for row in read_rows(folder / "results.csv"):
        if row["list"] != "validation":
            lists = rates.setdefault(row["variant"], {})
            lists.setdefault(row["list"], []).append(100 * float(row["eer"]))
    for objective, lists in rates.items():
        cells[objective] = {name: spread(x, 2) for name, x in lists.items()}
    for row in read_rows(folder / "differences.csv"):
        if row["list"] == OVERALL:
            continue  # a ratio, and of other lists in another folder
        found = (float(row[key]) for key in ("difference", "low", "high"))
        cells[row["variant"]][row["list"]] += f"<br>{interval(*found)}"
    return cells


def read_rows(path):
    """The rows of a CSV file."""
    if not path.is_file():
        sys.exit(
            f"error: {path.parent}: neither results.csv of benchmarks/ladder.py "
            "nor metrics.json of speaker_verification_cosine.py"
        )
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
