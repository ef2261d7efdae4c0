"""The commands that listen to recordings."""

import contextlib
import dataclasses
import io
import math
import os
import sys

import numpy as np
from tqdm import tqdm

from speechbrain_scl.command_line.console import result, say
from speechbrain_scl.data.tables import LABELS, read_list, read_pairs
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import KNOWN
from speechbrain_scl.evaluation.store import load_embeddings, save_embeddings
from speechbrain_scl.files import atomic_write
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices.hearing import Heard

# What `verify a.wav b.wav` takes; the threshold is that of SpeechBrain's
# SpeakerRecognition.verify_batch
DEFAULT, DOCUMENTED_THRESHOLD = "ecapa-voxceleb", 0.25


def verify(args):
    """Compares two recordings, and decides where it can."""
    if args.recordings == ["-", "-"]:
        raise UserError("only one recording can come from standard input")
    remark = ""
    if args.model is None:
        args.model, remark = DEFAULT, f" ({KNOWN[DEFAULT]})"
        if args.threshold is None and args.calibration is None:
            args.threshold = DOCUMENTED_THRESHOLD
            remark = f"{remark[:-1]}, at SpeechBrain's documented threshold)"
    verifier = _load(args)
    if args.exit_status and not verifier.decides:
        raise UserError("--exit-status needs --calibration or --threshold")
    heard = [_hear(verifier, args, path) for path in args.recordings]
    found = verifier.verify(*heard)
    model = KNOWN.get(args.model, args.model)
    result(args, f"{found}{remark}", model=model, **dataclasses.asdict(found))
    say(args, "warning: ", *found.warnings)
    status = {True: 0, False: 1, None: 2}[found.same_speaker]
    return status if args.exit_status else 0


def identify(args):
    """Finds the enrolled voice of each recording."""
    verifier = _load(args)
    verifier.load_voices(args.voices)
    for name, heard in _hear_all(verifier, args, _recordings(args)).items():
        found = verifier.identify(heard, args.top)
        say(args, "warning: ", *found.warnings)
        lines = [f"{name}: {found.speaker or 'no decision'}"]
        lines += [f"  {v}: {c}" for v, c in found.candidates.items()]
        result(args, *lines, recording=name, **dataclasses.asdict(found))


def embed(args):
    """Writes the embeddings of recordings."""
    _check_output(args.output, (".npz", ".ark", ".scp"))
    places = _recordings(args)
    verifier = _load(args)
    heard = _hear_all(verifier, args, places, needs_speech=True)
    vectors = {name: found.embedding for name, found in heard.items()}
    save_embeddings(args.output, vectors, verifier.key)
    said = f"{args.output}: {len(heard)} embedding{'s' * (len(heard) > 1)}"
    result(args, said, output=args.output, embeddings=len(heard))


def score(args):
    """Scores the pairs of a list, each recording heard once."""
    written = contextlib.nullcontext(sys.stdout)
    if args.output:
        _check_output(args.output)
        written = atomic_write(args.output)
    verifier = _load(args)
    pairs, heard, n_listed = _hear_pairs(verifier, args)
    words = {True: "same", False: "different", None: "undecided"}
    with written as file, contextlib.redirect_stdout(file):
        for label, first, second in pairs:
            found = verifier.verify(heard[first], heard[second])
            say(args, "warning: ", *found.warnings)
            columns = [] if label is None else [label]
            columns += [first, second, f"{found.cosine:.6f}"]
            if found.log_likelihood_ratio is not None:
                columns.append(f"{found.log_likelihood_ratio:.4f}")
            if found.threshold is not None:
                columns.append(words[found.same_speaker])
            facts = {"label": label, "first": first, "second": second}
            facts |= dataclasses.asdict(found)
            result(args, "\t".join(columns), **facts)
    if args.output or len(pairs) < n_listed:
        print(f"{len(pairs)} of {n_listed} pairs scored", file=sys.stderr)


def calibrate(args):
    """Scores labelled pairs, and writes what turns a cosine into a decision."""
    from speechbrain_scl.evaluation import plots
    from speechbrain_scl.evaluation.calibration import calibrate as fitted
    from speechbrain_scl.evaluation.metrics import Counts

    _check_output(args.output, (".json",))
    verifier = _load(args)
    pairs, heard, _ = _hear_pairs(verifier, args, to_learn=True)
    if not pairs:
        raise UserError(f"{args.pairs}: no pair is left")
    number = {name: i for i, name in enumerate(heard)}
    sides = np.array([[number[x] for x in pair[1:]] for pair in pairs]).T
    labels = np.array([LABELS[pair[0]] for pair in pairs], bool)
    speakers = _speakers(args.pairs, list(heard), sides, labels)
    vectors = np.stack([found.embedding for found in heard.values()])
    scores = (vectors[sides[0]] * vectors[sides[1]]).sum(1)
    calibration, found = fitted(
        scores, labels, speakers, args.p_target, verifier.key
    )
    calibration.save(args.output)
    picture = f"{os.path.splitext(args.output)[0]}.png"
    threshold = found["threshold"]
    lines = {f"same speaker from {threshold:.3f} on": threshold}
    plots.save(plots.histogram(Counts.of(scores, labels), lines), picture)
    say(args, "warning: ", *found["remarks"])
    rates = [
        f"{100 * found[name]:.1f} % {name.replace('_', ' ')} (95 % interval "
        f"over speakers: {100 * low:.1f} to {100 * high:.1f})"
        for name in ("miss", "false_alarm")
        for low, high in [found[f"{name}_ci"]]
    ]
    result(
        args,
        f"{args.output}: same speaker from a cosine of {threshold:.3f} on, at "
        f"p_target {args.p_target:g}",
        f"of {len(pairs)} pairs of {found['n_speakers']} speakers, each "
        f"decided without its own: {' and '.join(rates)}",
        f"{picture}: the scores",
        output=args.output,
        **found,
    )


def enrol(args):
    """Adds a voice to a store, which it makes where there is none."""
    _check_output(args.voices)
    verifier = _load(args)
    with verifier.editing(args.voices):  # before hours of listening
        verifier.check_name(args.name, args.replace or args.add)
    heard = _hear_all(verifier, args, _recordings(args), needs_speech=True)
    with verifier.editing(args.voices):
        verifier.enrol(args.name, [*heard.values()], args.replace, args.add)
    result(
        args,
        f"{args.voices}: {args.name} enrolled with {len(heard)} recording(s); "
        f"{len(verifier.voices())} speaker(s)",
        name=args.name,
        recordings=len(heard),
        speakers=verifier.voices(),
    )


def _load(args):
    """The model, and the rule of those commands that decide."""
    rule = ("calibration", "threshold", "p_target")
    rule = {key: getattr(args, key) for key in rule if "calibration" in args}
    load = SpeakerVerifier.load
    verifier = load(args.model, args.device, trust=args.trust, **rule)
    verifier.progress = not args.quiet
    return verifier


def _check_output(path, endings=None):
    """Refuses, before hours of work, what cannot be written."""
    if endings and not path.endswith(endings):
        more = ", ".join(endings[:-1]) + " or " * (len(endings) > 1)
        raise UserError(f"{path}: end it in {more}{endings[-1]}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UserError(f"{path}: there is no folder {folder}")


def _recordings(args):
    """Name -> path of the recordings that a command line names."""
    places = {path: path for path in args.recordings}
    if args.list:
        places |= read_list(args.list)
    if not places:
        raise UserError("name recordings, or a list of them with --list")
    return places


def _hear(verifier, args, path, needs_speech=False):
    """A recording as the model hears it; ``-`` is the standard input."""
    source = path
    if path == "-":
        source = io.BytesIO(sys.stdin.buffer.read())
        source.name = "standard input"
    heard = verifier.listen(source, needs_speech)
    if heard.change:
        say(args, f"{heard.name}: converted, ", heard.change)
    say(args, "warning: ", *heard.warnings)
    return heard


def _hear_all(verifier, args, places, needs_speech=False):
    """Name -> Heard of the recordings at some places (name -> path)."""
    hint = "; --skip-bad goes on without it" * (len(places) > 1)
    gone = [p for p in places.values() if p != "-" and not os.path.exists(p)]
    if gone and not args.skip_bad:  # told before hours of listening
        more = f", nor {len(gone) - 1} others" * (len(gone) > 1)
        raise UserError(f"{gone[0]}: there is no such recording{more}{hint}")
    heard = {}
    # tqdm shows nothing where no terminal is.
    how = {"unit": "rec", "disable": args.quiet or None, "leave": False}
    for name, path in tqdm(places.items(), "Listening", **how):
        try:
            heard[name] = _hear(verifier, args, path, needs_speech)
        except UserError as error:
            if not args.skip_bad:
                raise UserError(f"{error}{hint}") from error
            say(args, "skipped: ", str(error))
    if skipped := len(places) - len(heard):
        print(f"{skipped} of {len(places)} recordings skipped", file=sys.stderr)
    if not heard:
        raise UserError("none of the recordings can be used")
    return heard


def _hear_pairs(verifier, args, to_learn=False):
    """The pairs of a list that can be used, as ``read_pairs`` returns them;
    name -> Heard; and how many pairs there were. To learn from them, they need
    labels, and speech."""
    path, stored = args.recordings, (args.recordings or "").endswith(".npz")
    if stored:  # what `embed` wrote
        known = load_embeddings(path, verifier.key)
    else:
        known = read_list(path) if path else None
    pairs, places = read_pairs(args.pairs, known, to_learn)
    if not stored:
        heard = _hear_all(verifier, args, places, to_learn)
        usable = [p for p in pairs if heard.keys() >= {*p[1:]}]
        return usable, heard, len(pairs)
    heard = {}
    for name, vector in known.items():
        length = np.linalg.norm(vector)
        if not length > 0:
            raise UserError(f"{path}: the embedding of {name} is zero")
        heard[name] = Heard(name, vector / length, 0.0, math.inf)
    return pairs, heard, len(pairs)


def _speakers(path, names, sides, same):
    """A number for each side of each pair: recordings that pairs of one speaker
    link are his."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, linked = len(names), sides[:, same]
    links = coo_array((same[same], tuple(linked)), shape=(n, n))
    speakers = connected_components(links, directed=False)[1][sides]
    wrong = (speakers[0] == speakers[1]) & ~same
    if wrong.any():
        a, b = (names[i] for i in sides[:, wrong.argmax()])
        raise UserError(
            f"{path}: {a} and {b} are labelled as different speakers, but other "
            "pairs link them as one"
        )
    return speakers
