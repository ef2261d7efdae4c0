"""The command that finds a threshold on labelled pairs of one's own."""

import os

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from speechbrain_scl.command_line.console import result
from speechbrain_scl.command_line.speakers import (
    check_output,
    hear_pairs,
    start,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.calibration import calibrate as fitted
from speechbrain_scl.evaluation.metrics import Counts
from speechbrain_scl.evaluation.trials import LABELS


def calibrate(args):
    """Scores labelled pairs, and writes what turns a cosine into a decision."""
    check_output(args.output, (".json",))
    verifier, remarks = start(args)
    pairs, heard = hear_pairs(verifier, remarks, args, to_learn=True)
    pairs = [p for p in pairs if p[1] in heard and p[2] in heard]
    if not pairs:
        raise UserError(f"{args.pairs}: no pair is left")
    number = {name: i for i, name in enumerate(heard)}
    sides = np.array([[number[x] for x in pair[1:]] for pair in pairs]).T
    labels = np.array([LABELS[pair[0]] for pair in pairs], bool)
    speakers = _speakers(args.pairs, list(heard), sides, labels)[sides]
    vectors = np.stack([found.embedding for found in heard.values()])
    scores = (vectors[sides[0]] * vectors[sides[1]]).sum(1)
    calibration, found = fitted(
        scores, labels, speakers, args.p_target, verifier.key
    )
    calibration.save(args.output)
    picture = f"{os.path.splitext(args.output)[0]}.png"
    decides = f"same speaker from {found['threshold']:.3f} on"
    counts = Counts.of(scores, labels)
    figure = plots.histogram(counts, {decides: found["threshold"]})
    plots.save(figure, picture)
    for remark in found["remarks"]:
        remarks(f"warning: {remark}")
    result(
        args,
        f"{args.output}: same speaker from a cosine of "
        f"{found['threshold']:.3f} on, at p_target {args.p_target:g}",
        f"of {len(pairs)} pairs of {found['n_speakers']} speakers, each "
        "decided without its own: "
        + " and ".join(_rate(name, found) for name in ("miss", "false_alarm")),
        f"{picture}: the scores",
        output=args.output,
        **found,
    )


def _rate(name, found):
    low, high = (100 * bound for bound in found[f"{name}_ci"])
    return (
        f"{100 * found[name]:.1f} % {name.replace('_', ' ')} (95 % interval "
        f"over speakers: {low:.1f} to {high:.1f})"
    )


def _speakers(path, names, sides, same):
    """A number per name: recordings that pairs of one speaker link are his."""
    first, second = sides
    links = coo_array(
        (same[same], (first[same], second[same])), shape=(len(names),) * 2
    )
    _, speaker = connected_components(links, directed=False)
    wrong = np.flatnonzero((speaker[first] == speaker[second]) & ~same)
    if len(wrong):
        a, b = (names[side[wrong[0]]] for side in sides)
        raise UserError(
            f"{path}: {a} and {b} are labelled as different speakers, but other "
            "pairs link them as one"
        )
    return speaker
