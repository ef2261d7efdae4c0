"""The commands that listen to recordings."""

import contextlib
import dataclasses
import io
import math
import os
import sys

import numpy as np
from tqdm import tqdm

from speechbrain_scl.command_line.console import Remarks, result
from speechbrain_scl.command_line.lists import read_list, read_pairs
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
    by_default = args.model is None
    if by_default:
        args.model = DEFAULT
        if args.threshold is None and args.calibration is None:
            args.threshold = DOCUMENTED_THRESHOLD
    verifier, remarks = start(args)
    if args.exit_status and not verifier.decides:
        raise UserError("--exit-status needs --calibration or --threshold")
    heard = [_hear(verifier, remarks, path) for path in args.recordings]
    found = verifier.verify(*heard)
    said = str(found)
    if by_default:
        said += f" ({KNOWN[DEFAULT]}"
        if args.threshold == DOCUMENTED_THRESHOLD:
            said += ", at SpeechBrain's documented threshold"
        said += ")"
    model = KNOWN.get(args.model, args.model)
    result(args, said, model=model, **dataclasses.asdict(found))
    remarks.warn(found.warnings)
    if not args.exit_status:
        return 0
    return {True: 0, False: 1, None: 2}[found.same_speaker]


def identify(args):
    """Finds the enrolled voice of each recording."""
    verifier, remarks = start(args)
    verifier.load_voices(args.voices)
    places = _recordings(args)
    for name, heard in hear_all(verifier, remarks, places, args).items():
        found = verifier.identify(heard, args.top)
        remarks.warn(found.warnings)
        lines = [f"{name}: {found.speaker or 'no decision'}"]
        lines += [f"  {v}: {c}" for v, c in found.candidates.items()]
        result(args, *lines, recording=name, **dataclasses.asdict(found))


def embed(args):
    """Writes the embeddings of recordings."""
    check_output(args.output, (".npz", ".ark", ".scp"))
    places = _recordings(args)
    verifier, remarks = start(args)
    heard = hear_all(verifier, remarks, places, args, needs_speech=True)
    vectors = {name: found.embedding for name, found in heard.items()}
    save_embeddings(args.output, vectors, verifier.key)
    many = "embedding" if len(heard) == 1 else "embeddings"
    said = f"{args.output}: {len(heard)} {many}"
    result(args, said, output=args.output, embeddings=len(heard))


def score(args):
    """Scores the pairs of a list, each recording heard once."""
    if args.output:
        check_output(args.output)
    verifier, remarks = start(args)
    pairs, heard = hear_pairs(verifier, remarks, args)
    scored = [p for p in pairs if p[1] in heard and p[2] in heard]
    with contextlib.ExitStack() as stack:
        if args.output:
            file = stack.enter_context(atomic_write(args.output))
            stack.enter_context(contextlib.redirect_stdout(file))
        for label, first, second in scored:
            found = verifier.verify(heard[first], heard[second])
            remarks.warn(found.warnings)
            facts = {"label": label, "first": first, "second": second}
            facts.update(dataclasses.asdict(found))
            result(args, _columns(label, first, second, found), **facts)
    if args.output or len(scored) < len(pairs):
        said = f"{len(scored)} of {len(pairs)} pairs scored"
        print(said, file=sys.stderr)


def enrol(args):
    """Adds a voice to a store, which it makes where there is none."""
    check_output(args.voices)
    verifier, remarks = start(args)
    with verifier.editing(args.voices):  # before hours of listening
        verifier.check_name(args.name, args.replace or args.add)
    places = _recordings(args)
    heard = hear_all(verifier, remarks, places, args, needs_speech=True)
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


def check_output(path, endings=None):
    """Refuses, before hours of work, what cannot be written."""
    if endings and not path.endswith(endings):
        more = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise UserError(f"{path}: end it in {more}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UserError(f"{path}: there is no folder {folder}")


def hear_pairs(verifier, remarks, args, to_learn=False):
    """The pairs of a list, as ``read_pairs`` returns them, and name -> Heard;
    to learn from them, they need labels, and speech."""
    known = None
    if args.recordings and args.recordings.endswith(".npz"):
        heard = _stored(args.recordings, verifier.key)
        known = dict.fromkeys(heard)
        return read_pairs(args.pairs, known, to_learn)[0], heard
    if args.recordings:
        known = read_list(args.recordings)
    pairs, places = read_pairs(args.pairs, known, to_learn)
    return pairs, hear_all(verifier, remarks, places, args, to_learn)


def _stored(path, model):
    """Name -> Heard of the embeddings that ``embed`` wrote."""
    stored = load_embeddings(path, model)
    for name, vector in stored.items():
        if not vector.any():
            raise UserError(f"{path}: the embedding of {name} is zero")
    return {
        name: Heard(name, vector / np.linalg.norm(vector), 0.0, math.inf)
        for name, vector in stored.items()
    }


def start(args):
    """The model, and what says what is worth saying."""
    options = ("calibration", "threshold", "p_target")
    if "calibration" not in args:
        options = ()
    verifier = SpeakerVerifier.load(
        args.model,
        args.device,
        trust=args.trust,
        **{option: getattr(args, option, None) for option in options},
    )
    verifier.progress = not args.quiet
    return verifier, Remarks(args.quiet)


def _recordings(args):
    """Name -> path of the recordings that a command line names."""
    places = {path: path for path in args.recordings}
    if args.list:
        places |= read_list(args.list)
    if not places:
        raise UserError("name recordings, or a list of them with --list")
    return places


def _hear(verifier, remarks, path, needs_speech=False):
    """A recording as the model hears it; ``-`` is the standard input."""
    source = path
    if path == "-":
        source = io.BytesIO(sys.stdin.buffer.read())
        source.name = "standard input"
    heard = verifier.listen(source, needs_speech)
    if heard.change:
        remarks(f"{heard.name}: converted, {heard.change}", heard.change)
    remarks.warn(heard.warnings)
    return heard


def hear_all(verifier, remarks, places, args, needs_speech=False):
    """Name -> Heard of the recordings at some places (name -> path)."""
    hint = "; --skip-bad goes on without it" * (len(places) > 1)
    gone = [p for p in places.values() if p != "-" and not os.path.exists(p)]
    if gone and not args.skip_bad:  # told before hours of listening
        more = f", nor {len(gone) - 1} others" * (len(gone) > 1)
        raise UserError(f"{gone[0]}: there is no such recording{more}{hint}")
    heard = {}
    # tqdm shows nothing where no terminal is.
    progress = tqdm(
        places.items(),
        desc="Listening",
        unit="rec",
        disable=remarks.quiet or None,
        leave=False,
    )
    for name, path in progress:
        try:
            heard[name] = _hear(verifier, remarks, path, needs_speech)
        except UserError as error:
            if not args.skip_bad:
                raise UserError(f"{error}{hint}") from error
            remarks(f"skipped: {error}")
    if skipped := len(places) - len(heard):
        print(f"{skipped} of {len(places)} recordings skipped", file=sys.stderr)
    if not heard:
        raise UserError("none of the recordings can be used")
    return heard


def _columns(label, first, second, found):
    """A pair's line: what is known, separated by tabs."""
    columns = [] if label is None else [label]
    columns += [first, second, f"{found.cosine:.6f}"]
    if found.log_likelihood_ratio is not None:
        columns.append(f"{found.log_likelihood_ratio:.4f}")
    if found.threshold is not None:
        words = {True: "same", False: "different", None: "undecided"}
        columns.append(words[found.same_speaker])
    return "\t".join(columns)
