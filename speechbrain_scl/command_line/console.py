"""What a command says: its result, and remarks beside it."""

import json
import sys

from tqdm import tqdm

from speechbrain_scl.errors import printable


def say(args, text, kind=None):
    """Says a text on standard error, unless it (or its kind) was said before,
    or the command is to be quiet."""
    if not args.quiet and (kind or text) not in args.said:
        tqdm.write(printable(text), file=sys.stderr)
        args.said.add(kind or text)


def warn(args, warnings):
    """Says each."""
    for warning in warnings:
        say(args, f"warning: {warning}")


def result(args, *lines, **facts):
    """Prints a command's result in words, or the same facts as JSON."""
    for line in [json.dumps(facts)] if args.json else lines:
        print(printable(line, keep="\t"))
