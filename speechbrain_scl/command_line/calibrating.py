"""The command that finds a threshold on labelled pairs of one's own."""

import os

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from speechbrain_scl.command_line.console import result
from speechbrain_scl.command_line.lists import read_list, read_pairs
from speechbrain_scl.command_line.speakers import check_output, hear_all, start
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.calibration import calibrate as fitted
from speechbrain_scl.evaluation.metrics import Counts
from speechbrain_scl.evaluation.results import trial_speakers
from speechbrain_scl.evaluation.trials import LABELS, Trials


def calibrate(args):
    """Scores labelled pairs, and writes what turns a cosine into a decision."""
    check_output(args.output, (".json",))
    known = read_list(args.recordings) if args.recordings else None
    pairs, places = read_pairs(args.pairs, known)
    for label, first, second in pairs:
        if label is None:
            raise UserError(
                f"{args.pairs}: {first} {second}: no label; 1 for the same "
                "speaker and 0 for different ones is wanted in each line"
            )
    verifier, remarks = start(args)
    heard = hear_all(verifier, remarks, places, args, needs_speech=True)
    pairs = [p for p in pairs if p[1] in heard and p[2] in heard]
    if not pairs:
        raise UserError(f"{args.pairs}: no pair is left")
    trials = _trials(args.pairs, pairs, heard)
    speakers = trial_speakers(trials, _speakers(trials).get)
    calibration, found = fitted(
        trials.scores, trials.labels, speakers, args.p_target, verifier.key
    )
    calibration.save(args.output)
    picture = f"{os.path.splitext(args.output)[0]}.png"
    counts = Counts.of(trials.scores, trials.labels)
    decides = f"same speaker from {found['threshold']:.3f} on"
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


def _trials(path, pairs, heard):
    """The pairs as a scored trial list."""
    number = {name: i for i, name in enumerate(heard)}
    vectors = np.stack([found.embedding for found in heard.values()])
    first, second = (
        np.array([number[pair[side]] for pair in pairs], np.int32)
        for side in (1, 2)
    )
    labels = np.array([LABELS[pair[0]] for pair in pairs], bool)
    trials = Trials(path, list(heard), list(heard), first, second, labels)
    return trials.with_scores((vectors[first] * vectors[second]).sum(1))


def _speakers(trials):
    """Name -> speaker: recordings that pairs of one speaker link are his."""
    n, same = len(trials.enrol_ids), trials.labels
    first, second = trials.enrol_index, trials.test_index
    links = coo_array((same[same], (first[same], second[same])), shape=(n, n))
    _, speaker = connected_components(links, directed=False)
    wrong = np.flatnonzero((speaker[first] == speaker[second]) & ~same)
    if len(wrong):
        a, b = (trials.enrol_ids[i[wrong[0]]] for i in (first, second))
        raise UserError(
            f"{trials.path}: {a} and {b} are labelled as different speakers, "
            "but other pairs link them as one"
        )
    return dict(zip(trials.enrol_ids, (f"{i}" for i in speaker)))
