"""Lists and tables as people's programs write them."""

import csv
import os
from pathlib import Path

from charset_normalizer import from_bytes

from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError

logger = get_logger(__name__)

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
            text = content.decode(encoding or "utf-8")
            return text.removeprefix("\ufeff")
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
        separator: [field.strip().lower() for field in fields]
        for separator in _SEPARATORS
        for fields in [next(csv.reader(first, delimiter=separator), [])]
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
            if any(map(str.strip, row)):
                row += [""] * (len(header) - len(row))
                values = [row[header.index(c)].strip() for c in columns]
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
