"""What a command says: its result, and remarks beside it."""

import json
import sys

from tqdm import tqdm

from speechbrain_scl.errors import printable


def say(args, before, *remarks):
    """Says remarks on standard error, behind the same words, unless they were
    said before or the command is to be quiet."""
    for remark in remarks:
        if not args.quiet and remark not in args.said:
            tqdm.write(printable(before + remark), file=sys.stderr)
            args.said.add(remark)


def result(args, *lines, **facts):
    """Prints a command's result in words, or the same facts as JSON."""
    for line in [json.dumps(facts)] if args.json else lines:
        print(printable(line, keep="\t"))
