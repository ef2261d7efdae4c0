#!/usr/bin/env python3
"""Training corpora against test lists, from finished ladders.

    python benchmarks/matrix.py results/matrix.md english=results/english \
        mandarin=results/mandarin

Each NAME=FOLDER is an --output of benchmarks/ladder.py; all have the same
objectives, seeds and trial lists. A cell is the EER in per cent, mean and
standard deviation over the seeds; below the first objective, the difference to
it with the paired interval over test speakers, as in the ladder's own table.
"""

import argparse
import csv
import sys
from pathlib import Path

from ladder import interval, spread

from speechbrain_scl.files import written_aside


def main():
    """Reads the ladders and writes one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the table, Markdown")
    parser.add_argument("ladders", nargs="+", metavar="NAME=FOLDER")
    args = parser.parse_args()
    rows, columns = [], None
    for named in args.ladders:
        name, _, folder = named.partition("=")
        found = read_ladder(Path(folder))
        lists = list(next(iter(found.values())))
        if columns not in (None, lists):
            sys.exit(f"error: {folder} has the lists {lists}, not {columns}")
        columns = lists
        for objective, cells in found.items():
            rows.append([name, objective, *cells.values()])
    lines = [
        "| trained on | objective | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    table = "\n".join(lines) + "\n"
    with written_aside(args.output) as file:
        file.write(table)
    print(table)


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
        found = (float(row[key]) for key in ("difference", "low", "high"))
        cells[row["variant"]][row["list"]] += f"<br>{interval(*found)}"
    return cells


def read_rows(path):
    """The rows of a CSV file."""
    if not path.is_file():
        sys.exit(f"error: {path}: not there; run benchmarks/ladder.py first")
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
