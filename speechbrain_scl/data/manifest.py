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
    return list(_read(path, COLUMNS, _utterance).values())


def read_column(path, column):
    """A further column of a manifest, such as session: ID -> value."""
    return _read(path, ["ID", column], operator.itemgetter(column))


def _read(path, columns, value_of):
    """ID -> what ``value_of`` makes of a row, of which no column is empty."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such manifest")
    found = {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            names = reader.fieldnames or []
            for column in columns:
                if column not in names:
                    raise ValueError(
                        f"no column {column}, but {', '.join(names)}; a "
                        "manifest of before there was such a column is "
                        "written anew once prepare.json beside it is deleted"
                    )
            for row in reader:
                for column in columns:
                    if not row[column]:
                        raise ValueError(f"{column} is empty")
                if row["ID"] in found:
                    raise ValueError(f"the ID {row['ID']} comes twice")
                found[row["ID"]] = value_of(row)
        except (ValueError, csv.Error) as error:
            # UnicodeDecodeError is a ValueError.
            raise UserError(
                f"{path}, line {reader.line_num}: {error}"
            ) from error
    return found


def _utterance(row):
    """A row of text as an utterance; ValueError where it is none."""
    fields = dataclasses.fields(Utterance)
    found = Utterance(*(field.type(row[field.name]) for field in fields))
    if not 0 < found.duration < math.inf:
        raise ValueError(f"duration={row['duration']}: no length in seconds")
    if not 0 <= found.start < found.stop:
        raise ValueError(
            f"start={found.start}, stop={found.stop}: no samples between them"
        )
    return found
