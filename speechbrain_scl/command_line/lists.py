"""Lists of recordings and of pairs, as users have them."""

from speechbrain_scl.data.tables import beside, read_lines, read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import LABELS


def read_list(path):
    """Reads a list of recordings.

    Arguments
    ---------
    path : str
        A path per line; where the file ends in ``.scp``, Kaldi's ``id path``.
        A path counts from the current folder, else from the list's.

    Returns
    -------
    dict
        Id (the path as it stands, without an id) -> path.

    Raises
    ------
    UserError
        No such list, an empty one, an id that comes twice, a pipe.

    Example
    -------
    >>> path = getfixture("tmp_path") / "wav.scp"
    >>> _ = path.write_text("ann-1 /data/ann 1.wav\\n")
    >>> read_list(str(path))
    {'ann-1': '/data/ann 1.wav'}
    """
    found = {}
    for number, line in read_lines(path):
        key, place = line, line
        if path.endswith(".scp"):
            key, place = (*line.split(maxsplit=1), "")[:2]
        if not place or place.endswith("|"):
            raise UserError(
                f"{path}, line {number}: {line!r}: `id path` is wanted; "
                "commands are not run"
            )
        if key in found:
            raise UserError(f"{path}, line {number}: {key} comes twice")
        found[key] = beside(path, place)
    return found


def read_pairs(path, recordings=None):
    """Reads pairs of recordings.

    Arguments
    ---------
    path : str
        Lines of ``first second``, or of a trial list: a label (1, 0, target,
        nontarget) before or behind. Fields are separated by tabs where there
        are any, else by blanks. Or, ending in ``.csv``, a table with the
        columns first, second and same.
    recordings : dict or None
        Id -> path, as ``read_list`` returns it, where the pairs are of ids.

    Returns
    -------
    list of tuple
        (label or None, first, second), as they stand.
    dict
        Name -> path.

    Raises
    ------
    UserError
        No such list, an empty one, a line that is no pair, an unknown id.

    Example
    -------
    >>> path = getfixture("tmp_path") / "pairs.txt"
    >>> _ = path.write_text("1 a.wav b.wav\\n")
    >>> read_pairs(str(path))[0]
    [('1', 'a.wav', 'b.wav')]
    """
    pairs, places = [], {}
    if path.endswith(".csv"):
        lines = read_table(path, ["same", "first", "second"])
    else:
        lines = [
            (n, line.split("\t") if "\t" in line else line.split())
            for n, line in read_lines(path)
        ]
    for number, fields in lines:
        line, label = " ".join(fields), None
        if len(fields) == 3 and fields[0] in LABELS:
            label, *fields = fields
        elif len(fields) == 3 and fields[2] in LABELS:
            *fields, label = fields
        if len(fields) != 2:
            raise UserError(
                f"{path}, line {number}: {line!r}: two recordings are wanted, "
                "and at most a label (1, 0, target, nontarget); separate "
                "paths that hold blanks by a tab"
            )
        for name in fields:
            if recordings is not None and name not in recordings:
                raise UserError(
                    f"{path}, line {number}: {name} is not in the --recordings"
                )
            places[name] = (
                beside(path, name) if recordings is None else recordings[name]
            )
        pairs.append((label, *fields))
    return pairs, places
