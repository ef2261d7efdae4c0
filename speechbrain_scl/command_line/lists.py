"""Lists of recordings and of pairs, as users have them."""

from speechbrain_scl.data.tables import beside, read_lines, read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import LABELS


def read_list(path):
    """Reads a list of recordings, id -> path: a path per line, which is its
    own id; where the file ends in ``.scp``, Kaldi's ``id path``. A path counts
    from the current folder, else from the list's."""
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


def read_pairs(path, recordings=None, labelled=False):
    """Reads pairs of recordings: (label or None, first, second) as they stand,
    and name -> path.

    Lines hold two names, and perhaps a label (1, 0, target, nontarget) before
    or behind; tabs separate them where there are any, else blanks. A ``.csv``
    is a table with the columns first, second and same. The names are paths, or
    ids of ``recordings``, as ``read_list`` returns them. ``labelled`` refuses a
    pair without a label.
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
            if recordings is None:
                places[name] = beside(path, name)
            elif name in recordings:
                places[name] = recordings[name]
            else:
                raise UserError(f"{where}: {name} is not in the --recordings")
        pairs.append((label, *fields))
    return pairs, places
