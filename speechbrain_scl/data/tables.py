"""Lists and tables as people's programs write them."""

import csv
import os
import shlex
from pathlib import Path

from charset_normalizer import from_bytes

from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError

logger = get_logger(__name__)

_IMPOSTOR = ("0", "nontarget", "non-target", "imposter", "impostor")
LABELS = {"1": 1, "target": 1, **dict.fromkeys(_IMPOSTOR, 0)}

# What office programs write that is not UTF-8. A short list could be read in
# many more encodings, which nobody uses.
_ENCODINGS = ["utf_8", "utf_16", "utf_16_le", "utf_16_be"]
_ENCODINGS += [f"cp{number}" for number in range(1250, 1259)]
_ENCODINGS += ["cp932", "cp949", "gb18030", "big5"]
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_text(path, encoding=None, plausible=bool):
    """A file's text; a guess at its encoding is logged. Of several guesses the
    first that ``plausible`` takes is meant: a few letters suggest several code
    pages."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    content = Path(path).read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise UserError(
            f"{path}: a workbook or an archive; save it as CSV in UTF-8"
        )
    try:
        if encoding or b"\0" not in content:
            return content.decode(encoding or "utf-8").removeprefix("\ufeff")
    except LookupError as error:
        raise UserError(f"encoding={encoding}: {error}") from error
    except UnicodeDecodeError as error:
        if encoding:
            raise UserError(f"{path}: not in {encoding}: {error}") from error
    guesses = from_bytes(content, cp_isolation=_ENCODINGS)
    if not guesses:
        raise UserError(
            f"{path}: not a text in UTF-8, UTF-16 or a code page of Windows; "
            "save it as UTF-8"
        )
    found = next((g for g in guesses if plausible(str(g))), guesses[0])
    logger.warning(
        f"{path}: not UTF-8, so read as {found.encoding}; if names look wrong, "
        "name its encoding or save it as UTF-8"
    )
    return str(found).removeprefix("\ufeff")


def read_lines(path, encoding=None):
    """The lines of a list that hold something, with their numbers from 1. No
    encoding takes UTF-8 or, where it is not that, what its letters suggest."""
    text = read_text(path, encoding)
    lines = [(n, x.strip()) for n, x in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise UserError(f"{path}: the list is empty")
    return lines


def read_keyed(path, encoding=None, keyed=True):
    """Key -> (line number, value) of a list as Kaldi's, in which blanks or tabs
    separate them; in one that is not ``keyed`` each line is its own key."""
    found = {}
    for number, line in read_lines(path, encoding):
        key, *value = line.split(maxsplit=1) if keyed else (line, line)
        fault = ""
        if not value:
            fault = f"only one field: {line!r}"
        elif key in found:
            fault = f"{key} comes twice"
        elif value[0].endswith("|"):
            fault = "commands are not run here. Run it, and name what it "
            fault += f"writes in its place: {value[0][:-1].strip()} > "
            fault += shlex.quote(f"{key}.wav")
        if fault:
            raise UserError(f"{path}, line {number}: {fault}")
        found[key] = number, value[0]
    return found


def read_list(path):
    """Reads a list of recordings, id -> path: a path per line, which is its
    own id; where the file ends in ``.scp``, Kaldi's ``id path``. A path counts
    from the current folder, else from the list's."""
    listed = read_keyed(path, keyed=path.endswith(".scp"))
    return {key: beside(path, place) for key, (_, place) in listed.items()}


def read_pairs(path, known=None, labelled=False):
    """Reads pairs of recordings: (label or None, first, second) as they stand,
    and what ``known`` has of each name, or the path that it is.

    Lines hold two names, and perhaps a label (1, 0, target, nontarget) before
    or behind; tabs separate them where there are any, else blanks. A ``.csv``
    is a table with the columns first, second and same. ``labelled`` refuses a
    pair without a label.
    """
    pairs, places = [], {}
    if path.endswith(".csv"):
        lines = read_table(path, ["same", "first", "second"])
    else:
        lines = [
            (number, line.split("\t") if "\t" in line else line.split())
            for number, line in read_lines(path)
        ]
    for number, fields in lines:
        where, label = f"{path}, line {number}: {' '.join(fields)!r}", None
        if len(fields) == 3 and fields[0] in LABELS:
            label, *fields = fields
        elif len(fields) == 3 and fields[2] in LABELS:
            *fields, label = fields
        if len(fields) != 2:
            raise UserError(
                f"{where}: two recordings are wanted, and at most a label (1, "
                "0, target, nontarget); separate paths that hold blanks by a "
                "tab"
            )
        if labelled and label is None:
            raise UserError(
                f"{where}: no label; 1 for the same speaker or 0 for different "
                "ones is wanted in each line"
            )
        for name in fields:
            if known is None:
                places[name] = beside(path, name)
            elif name in known:
                places[name] = known[name]
            else:
                raise UserError(f"{where}: {name} is not among the recordings")
        pairs.append((label, *fields))
    return pairs, places


def read_table(path, columns, encoding=None, plausible=bool):
    """Columns of a CSV file that its first line names, in small letters, and
    commas, semicolons, tabs or bars separate: (line, values) of each row.
    ``plausible`` says of the values, a list per row, whether they can be so."""

    def meant(text):
        try:
            return plausible([v for _, v in _rows(path, text, columns)])
        except UserError:
            return False

    return _rows(path, read_text(path, encoding, meant), columns)


def _rows(path, text, columns):
    lines = text.splitlines(keepends=True)
    # After the header, and Excel's own hint at the separator
    start = 1 + (text[:4].lower() == "sep=")
    first = lines[start - 1 : start]
    headers = {
        separator: [field.strip().lower() for row in rows for field in row]
        for separator in _SEPARATORS
        for rows in [csv.reader(first, delimiter=separator)]
    }
    fits = [s for s in _SEPARATORS if set(columns) <= set(headers[s])]
    separator = max(fits or _SEPARATORS, key=lambda s: len(headers[s]))
    header = headers[separator]
    if not fits:
        names = ", ".join(map(repr, header)) or "nothing"
        if len(header) > 1:
            names += f" (separated by {_SEPARATORS[separator]})"
        raise UserError(
            f"{path}: its first line must name the columns "
            f"{' and '.join(columns)}; it names {names}"
        )
    reader, rows = csv.reader(lines[start:], delimiter=separator), []
    try:
        for row in reader:
            if len(row) > len(header):
                raise csv.Error(
                    f"{len(row)} fields in {len(header)} columns; put those "
                    f"that hold {_SEPARATORS[separator]} in quotation marks"
                )
            cells = dict(zip(header, map(str.strip, row)))
            if any(cells.values()):
                values = [cells.get(column, "") for column in columns]
                rows.append((reader.line_num + start, values))
    except csv.Error as error:
        line = reader.line_num + start
        raise UserError(f"{path}, line {line}: {error}") from error
    return rows


def beside(path, name):
    """A file that a list names, from the current folder or from the list's."""
    other = os.path.join(os.path.dirname(path), name)
    return other if not os.path.exists(name) and os.path.exists(other) else name


def as_list(value, name):
    """The items of an option that takes one or several: of a list, or of a
    text that separates them by commas."""
    items = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(items, list | tuple)
        or not items
        or not all(isinstance(item, str) and item.strip() for item in items)
    ):
        raise UserError(f"{name}={value!r}: name one, or a list of several")
    return [item.strip() for item in items]
