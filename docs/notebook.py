#!/usr/bin/env python3
"""Writes tutorial.ipynb from tutorial.md (pip install -e '.[notebook]').

    python docs/notebook.py

Blocks of bash become %%bash cells; the first cell goes to the clone's root,
where the tutorial's commands are started.
"""

from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
HEADER = "---\njupyter:\n  jupytext:\n    main_language: python\n---\n"


def notebook():
    """The tutorial as a notebook.

    Returns
    -------
    nbformat.NotebookNode
    """
    text = (HERE / "tutorial.md").read_text(encoding="utf-8")
    book = jupytext.reads(HEADER + text, fmt="md")
    book.cells.insert(0, nbformat.v4.new_code_cell("%cd .."))
    for i, cell in enumerate(book.cells):
        cell.id = f"cell-{i}"  # random otherwise
    book.metadata = {"kernelspec": KERNEL}
    return book


if __name__ == "__main__":
    nbformat.write(notebook(), HERE / "tutorial.ipynb")
