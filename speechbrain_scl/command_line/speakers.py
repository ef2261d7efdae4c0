"""The commands that listen to recordings."""

import contextlib
import dataclasses
import io
import json
import os
import sys

from tqdm import tqdm

from speechbrain_scl.command_line.console import Remarks
from speechbrain_scl.command_line.lists import read_list, read_pairs
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import save_embeddings
from speechbrain_scl.files import atomic_write
from speechbrain_scl.verifier import SpeakerVerifier


def verify(args):
    """Compares two recordings, and decides where it can."""
    if args.recordings == ["-", "-"]:
        raise UserError("only one recording can come from standard input")
    verifier, remarks = _start(args)
    if args.exit_status and not verifier.decides:
        raise UserError("--exit-status needs --calibration or --threshold")
    heard = [_hear(verifier, remarks, path) for path in args.recordings]
    found = verifier.verify(*heard)
    print(_json(found) if args.json else found)
    remarks.warn(found.warnings)
    if not args.exit_status:
        return 0
    return {True: 0, False: 1, None: 2}[found.same_speaker]


def identify(args):
    """Finds the enrolled voice of each recording."""
    verifier, remarks = _start(args)
    verifier.load_voices(args.voices)
    places = _recordings(args)
    for name, heard in _hear_all(verifier, remarks, places, args).items():
        found = verifier.identify(heard, args.top)
        remarks.warn(found.warnings)
        if args.json:
            print(_json(found, recording=name))
            continue
        print(f"{name}: {found.speaker or 'no decision'}")
        for voice, compared in found.candidates.items():
            print(f"  {voice}: {compared}")


def embed(args):
    """Writes the embeddings of recordings."""
    if not args.output.endswith((".npz", ".ark", ".scp")):
        raise UserError(f"{args.output}: end it in .npz, .ark or .scp")
    places = _recordings(args)
    heard = _hear_all(*_start(args), places, args)
    save_embeddings(args.output, {n: u.embedding for n, u in heard.items()})
    many = "embedding" if len(heard) == 1 else "embeddings"
    print(f"{args.output}: {len(heard)} {many}")


def score(args):
    """Scores the pairs of a list, each recording heard once."""
    known = read_list(args.recordings) if args.recordings else None
    pairs, places = read_pairs(args.pairs, known)
    verifier, remarks = _start(args)
    heard = _hear_all(verifier, remarks, places, args)
    scored = [p for p in pairs if p[1] in heard and p[2] in heard]
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if args.output:
            file = stack.enter_context(atomic_write(args.output))
        for label, first, second in scored:
            found = verifier.verify(heard[first], heard[second])
            remarks.warn(found.warnings)
            if args.json:
                names = {"label": label, "first": first, "second": second}
                line = _json(found, **names)
            else:
                line = _columns(label, first, second, found)
            print(line, file=file)
    if args.output or len(scored) < len(pairs):
        said = f"{len(scored)} of {len(pairs)} pairs scored"
        print(said, file=sys.stderr)


def enrol(args):
    """Adds a voice to a store, which it makes where there is none."""
    verifier, remarks = _start(args)
    if os.path.exists(args.voices):
        verifier.load_voices(args.voices)
    verifier.check_name(args.name, args.replace)
    heard = _hear_all(verifier, remarks, _recordings(args), args)
    verifier.enrol(args.name, list(heard.values()), args.replace)
    verifier.save_voices(args.voices)
    print(
        f"{args.voices}: {args.name} enrolled with {len(heard)} recording(s); "
        f"{len(verifier.voices())} speaker(s)"
    )


def _start(args):
    """The model, and what says what is worth saying."""
    options = ("calibration", "threshold", "p_target")
    verifier = SpeakerVerifier.load(
        args.model,
        args.device,
        **{option: getattr(args, option, None) for option in options},
    )
    return verifier, Remarks(args.quiet)


def _recordings(args):
    """Name -> path of the recordings that a command line names."""
    places = {path: path for path in args.recordings}
    if args.list:
        places |= read_list(args.list)
    if not places:
        raise UserError("name recordings, or a list of them with --list")
    return places


def _hear(verifier, remarks, path):
    """A recording as the model hears it; ``-`` is the standard input."""
    source = path
    if path == "-":
        source = io.BytesIO(sys.stdin.buffer.read())
        source.name = "standard input"
    heard = verifier.listen(source)
    if heard.change:
        remarks(f"{heard.name}: converted, {heard.change}", heard.change)
    remarks.warn(heard.warnings)
    return heard


def _hear_all(verifier, remarks, places, args):
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
            heard[name] = _hear(verifier, remarks, path)
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


def _json(found, **more):
    return json.dumps({**more, **dataclasses.asdict(found)})
