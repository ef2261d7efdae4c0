#!/usr/bin/env python3
"""Writes tutorial.ipynb from tutorial.md (pip install -e '.[notebook]').

    python docs/notebook.py

Blocks of bash become %%bash cells; the first cell goes to the clone's root,
where the tutorial's commands are started. All cells are run, which takes some
minutes, and what they print is kept.
"""

import re
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).resolve().parent
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
HEADER = "---\njupyter:\n  jupytext:\n    main_language: python\n---\n"


def notebook():
    """The tutorial as a notebook, not run."""
    text = (HERE / "tutorial.md").read_text(encoding="utf-8")
    book = jupytext.reads(HEADER + text, fmt="md")
    book.cells.insert(0, nbformat.v4.new_code_cell("%cd .."))
    for i, cell in enumerate(book.cells):
        cell.id = f"cell-{i}"  # random otherwise
    book.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return book


def run(book):
    """Runs all cells; progress bars, what SpeechBrain says of every checkpoint
    and paths of this machine are left out."""
    where = {"metadata": {"path": str(HERE)}}
    nbclient.NotebookClient(book, timeout=None, resources=where).execute()
    book.metadata.pop("language_info")  # the version of this Python
    for cell in book.cells:
        cell.metadata.clear()  # when it was run
        said = ""
        for output in cell.pop("outputs", []):
            said += output.get("text", "")
        said = re.sub(r"(?m)^(speechbrain\.|.*%\|).*\n?|[^\n]*\r", "", said)
        said = said.replace(str(HERE.parent), "...").strip("\n")
        if cell.cell_type == "code":
            stream = nbformat.v4.new_output("stream", text=said + "\n")
            cell.outputs = [stream] if said else []


if __name__ == "__main__":
    made = notebook()
    run(made)
    nbformat.write(made, HERE / "tutorial.ipynb")
