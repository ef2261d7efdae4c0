"""Lists and tables as people's programs write them."""

import csv
import os

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


def read_text(path, encoding=None, plausible=None):
    """A file's text; a guess at its encoding is logged. Of several guesses the
    first that ``plausible`` takes is meant: a few letters suggest several code
    pages."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    with open(path, "rb") as file:
        content = file.read()
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
    found = guesses[0]
    if plausible is not None:
        found = next((g for g in guesses if plausible(str(g))), found)
    logger.warning(
        "%s: not UTF-8, so read as %s; if names look wrong, name its encoding "
        "or save it as UTF-8",
        path,
        found.encoding,
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


def read_table(path, columns, encoding=None, plausible=None):
    """Columns of a CSV file that its first line names, in small letters, and
    commas, semicolons, tabs or bars separate: (line, values) of each row.
    ``plausible`` says of the values, a list per row, whether they can be meant."""

    def meant(text):
        try:
            return plausible([v for _, v in _rows(path, text, columns)])
        except UserError:
            return False

    text = read_text(path, encoding, plausible and meant)
    return _rows(path, text, columns)


def _rows(path, text, columns):
    lines = text.splitlines(keepends=True)
    # Excel's own hint at the separator
    skipped = int(bool(lines) and lines[0].lower().startswith("sep="))
    separator, header = _header(path, lines[skipped:], columns)
    reader = csv.reader(lines[skipped + 1 :], delimiter=separator)
    rows = []
    try:
        for row in reader:
            line = reader.line_num + 1 + skipped
            if len(row) > len(header):
                raise UserError(
                    f"{path}, line {line}: {len(row)} fields in "
                    f"{len(header)} columns; put those that hold "
                    f"{_SEPARATORS[separator]} in quotation marks"
                )
            if any(map(str.strip, row)):
                row += [""] * (len(header) - len(row))
                values = [row[header.index(c)].strip() for c in columns]
                rows.append((line, values))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num + 1 + skipped}: {error}"
        ) from error
    return rows


def _header(path, lines, columns):
    """The separator that makes the wanted columns of the first line."""
    found = {}
    for separator in _SEPARATORS:
        fields = next(csv.reader(lines[:1], delimiter=separator), [])
        found[separator] = [field.strip().lower() for field in fields]
        if set(columns) <= set(found[separator]):
            return separator, found[separator]
    separator = max(found, key=lambda s: len(found[s]))
    names = ", ".join(map(repr, found[separator])) or "nothing"
    if len(found[separator]) > 1:
        names += f" (separated by {_SEPARATORS[separator]})"
    raise UserError(
        f"{path}: its first line must name the columns "
        f"{' and '.join(columns)}; it names {names}"
    )


def beside(path, name):
    """A file that a list names, from the current folder or from the list's."""
    other = os.path.join(os.path.dirname(path), name)
    return other if not os.path.exists(name) and os.path.exists(other) else name


def as_list(value, name):
    """The items of an option that takes one or several.

    Example
    -------
    >>> as_list("a.txt, b.txt", "verification_file")
    ['a.txt', 'b.txt']
    """
    items = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(items, list | tuple)
        or not items
        or not all(isinstance(item, str) and item.strip() for item in items)
    ):
        raise UserError(f"{name}={value!r}: name one, or a list of several")
    return [item.strip() for item in items]
