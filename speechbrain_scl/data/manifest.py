"""Manifests: the CSV files that training and evaluation read."""

import csv
import dataclasses
import math
import operator
import os

from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_write


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One row of a manifest; SpeechBrain's VoxCeleb columns."""

    ID: str
    duration: float
    wav: str
    start: int
    stop: int
    spk_id: str


COLUMNS = [field.name for field in dataclasses.fields(Utterance)]


def write_manifest(path, utterances):
    """Writes utterances; a subclass's further fields become columns."""
    utterances = list(utterances)
    kind = type(utterances[0]) if utterances else Utterance
    columns = [field.name for field in dataclasses.fields(kind)]
    write_csv(path, columns, map(operator.attrgetter(*columns), utterances))


def write_csv(path, columns, rows):
    """Writes a table as CSV."""
    with atomic_write(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_manifest(path):
    """The utterances of a CSV file that has at least their columns."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such manifest")
    rows = {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = set(COLUMNS) - set(reader.fieldnames or [])
            if missing:
                raise UserError(
                    f"{path}: column(s) {', '.join(sorted(missing))} missing"
                )
            for row in reader:
                utterance = _utterance(row)
                if utterance.ID in rows:
                    raise ValueError(f"the ID {utterance.ID} comes twice")
                rows[utterance.ID] = utterance
        except UserError:
            raise
        except (TypeError, ValueError, csv.Error) as error:
            # UnicodeDecodeError is a ValueError.
            raise UserError(
                f"{path}, line {reader.line_num}: {error}"
            ) from error
    return list(rows.values())


def read_column(path, column):
    """A further column of a manifest, such as session: ID -> value."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if column not in names:
            raise UserError(
                f"{path}: it has no column {column}, but {', '.join(names)}; "
                "one that was prepared before there was such a column is "
                "prepared anew once prepare.json beside it is deleted"
            )
        values = {}
        for row in reader:
            if not row[column]:
                raise UserError(
                    f"{path}, line {reader.line_num}: {column} is empty"
                )
            values[row["ID"]] = row[column]
    return values


def _utterance(row):
    """A row of text as an utterance; ValueError where it is none."""
    kinds = {field.name: field.type for field in dataclasses.fields(Utterance)}
    found = Utterance(**{name: kind(row[name]) for name, kind in kinds.items()})
    for column in ("ID", "wav", "spk_id"):
        if not row[column]:
            raise ValueError(f"{column} is empty")
    if not 0 < found.duration < math.inf:
        raise ValueError(f"duration={row['duration']}: no length in seconds")
    if not 0 <= found.start < found.stop:
        raise ValueError(
            f"start={found.start}, stop={found.stop}: no samples between them"
        )
    return found
