"""Files and folders that appear under their name only when complete."""

import contextlib
import json
import os
import shutil
import tempfile


@contextlib.contextmanager
def written_aside(path, binary=False):
    """A file, written beside its name and moved there at the end.

    Arguments
    ---------
    path : str
        The final name; its folder is made.
    binary : bool
        Bytes instead of text in UTF-8.

    Yields
    ------
    file
        Open for writing.

    Example
    -------
    >>> path = getfixture("tmp_path") / "sub" / "a.txt"
    >>> with written_aside(path) as file:
    ...     _ = file.write("done")
    >>> path.read_text()
    'done'
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=folder, prefix=".aside-")
    try:
        text = {} if binary else {"encoding": "utf-8", "newline": ""}
        with os.fdopen(handle, "wb" if binary else "w", **text) as file:
            yield file
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


@contextlib.contextmanager
def folder_written_aside(path):
    """A folder, filled beside its name; it replaces what has the name.

    Arguments
    ---------
    path : str
        The final name; its parent is made.

    Yields
    ------
    str
        The folder to fill.

    Example
    -------
    >>> path = getfixture("tmp_path") / "model"
    >>> with folder_written_aside(path) as aside:
    ...     open(os.path.join(aside, "a.txt"), "w").close()
    >>> os.listdir(path)
    ['a.txt']
    """
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    aside = tempfile.mkdtemp(dir=os.path.dirname(path), prefix=".aside-")
    try:
        yield aside
        os.chmod(aside, 0o755)
        if os.path.isdir(path):
            shutil.rmtree(path)
        os.replace(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_json(path, content):
    """Writes a JSON file; a number that is not finite is an error.

    Arguments
    ---------
    path : str
        The file.
    content : dict
        What to write.
    """
    with written_aside(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
