"""Text in any usual encoding, tables with any usual separator."""

import itertools
import logging

import pytest

from speechbrain_scl.data.tables import read_lines, read_table
from speechbrain_scl.errors import UserError

WANTED = ["path", "speaker"]
SPEAKERS = {
    "cp1250": ["Dvořák", "Žižka", "Świątek", "Kovács Őry"],
    "cp1252": ["José", "Müller", "Françoise"],
    "cp1251": ["Иванов", "Петров"],
    "cp932": ["田中", "鈴木"],
}
SPEAKERS |= dict.fromkeys(
    ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"),
    ["José", "Dvořák", "王伟"],
)


@pytest.mark.parametrize(
    "encoding, separator", zip(SPEAKERS, itertools.cycle(",;\t|"))
)
def test_any_usual_encoding(tmp_path, encoding, separator, caplog):
    rows = [[f"{s}/{i} a.wav", s] for s in SPEAKERS[encoding] for i in range(3)]
    # As spreadsheets do: quotation marks, an empty line at the end
    lines = [["Path", " speaker"], *rows, ["", ""]]
    text = "".join(f'"{a}"{separator}{b}\r\n' for a, b in lines)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    wanted = list(enumerate(rows, 2))
    with caplog.at_level(logging.WARNING):
        assert read_table(str(path), WANTED) == wanted
    # A guess is said.
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == (not encoding.startswith("utf-8"))
    assert all(f"{path}: not UTF-8, so read as" in message for message in said)
    caplog.clear()
    assert read_table(str(path), WANTED, encoding) == wanted
    assert not caplog.records


def test_excels_hint_columns_of_no_interest_and_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nid;speaker;path\n1;ann\n\n2;bob;a, b.wav\n")
    assert read_table(str(path), WANTED) == [
        (3, ["", "ann"]),
        (5, ["a, b.wav", "bob"]),
    ]
    path.write_text("\ufeffa\tb \r\n\n c\n")
    assert read_lines(str(path)) == [(1, "a\tb"), (3, "c")]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "names nothing"),
        (b"file;speaker\n", "'file', 'speaker' .separated by semicolons.$"),
        (b"ann/1.wav\tann\n", "names 'ann/1.wav', 'ann' .separated by tabs"),
        (b"name\n", "path and speaker; it names 'name'$"),
        (b"path,speaker\na, b.wav,ann\n", "line 2: 3 fields in 2 columns; put"),
        (b"PK\x03\x04", "a workbook"),
        (bytes(range(256)), "not a text in UTF-8, UTF-16 or"),
    ],
)
def test_what_is_no_such_table(tmp_path, content, said):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_table(str(path), WANTED)


def test_what_is_no_list(tmp_path):
    path, empty = tmp_path / "a.csv", tmp_path / "empty"
    path.write_bytes("José".encode("cp1252"))
    empty.write_text("\n")
    for said, *given in (
        ("not in ascii", path, "ascii"),
        ("unknown encoding: cp1", path, "cp1"),
        ("no such file", tmp_path),
        ("the list is empty", empty),
    ):
        with pytest.raises(UserError, match=said):
            read_lines(*map(str, given))
