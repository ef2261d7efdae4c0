"""Several corpora's manifests as one, to train on them jointly.

    python -m speechbrain_scl.data.merge joint.csv A/save/train.csv B/save/train.csv

Train with --skip_prep=True --train_annotation=joint.csv and a
--valid_annotation merged likewise; --out_n_neurons is printed.
"""

import argparse

from speechbrain_scl.data.manifest import read_manifest, write_manifest
from speechbrain_scl.errors import UserError, user_errors_in_one_line


def merge_manifests(path, sources):
    """Writes the rows of all manifests into one.

    Arguments
    ---------
    path : str
        The file to write.
    sources : list of str
        Manifests; further columns than those of ``Utterance`` are left out.

    Returns
    -------
    dict
        Speakers and utterances.

    Raises
    ------
    UserError
        An utterance or a speaker that is in two of them: as two corpora may
        give one name to different people, it is for you to rename it.

    Example
    -------
    >>> from speechbrain_scl.data.manifest import Utterance
    >>> folder = getfixture("tmp_path")
    >>> sources = []
    >>> for name in ("ann", "bob"):
    ...     sources.append(str(folder / f"{name}.csv"))
    ...     row = Utterance(f"{name}-1", 1.0, "1.wav", 0, 16000, name)
    ...     write_manifest(sources[-1], [row])
    >>> merge_manifests(str(folder / "joint.csv"), sources)
    {'speakers': 2, 'utterances': 2}
    """
    rows, seen = [], {}
    for source in sources:
        found = read_manifest(source)
        for name in {u.spk_id for u in found} | {u.ID for u in found}:
            other = seen.setdefault(name, source)
            if other != source:
                raise UserError(
                    f"{name} is in {other} and in {source}: rename one, or "
                    "leave one manifest out"
                )
        rows.extend(found)
    write_manifest(path, rows)
    return {"speakers": len({u.spk_id for u in rows}), "utterances": len(rows)}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("output", help="the manifest to write")
    parser.add_argument("manifests", nargs="+", metavar="manifest")
    args = parser.parse_args()
    counts = merge_manifests(args.output, args.manifests)
    print(
        f"{args.output}: {counts['utterances']} utterances; train on it with "
        f"--out_n_neurons={counts['speakers']}"
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
