"""The commands that listen: a thin layer on ``SpeakerVerifier``."""

import contextlib
import dataclasses
import io
import json
import os
import sys

from tqdm import tqdm

from speechbrain_scl.command_line.lists import read_list, read_pairs
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import save_embeddings
from speechbrain_scl.files import atomic_write
from speechbrain_scl.verifier import SpeakerVerifier


class Listener:
    """Hears each recording once, and says what is worth saying.

    Arguments
    ---------
    args : argparse.Namespace
        Of a command line.
    """

    def __init__(self, args):
        self.quiet = args.quiet
        self.skip_bad = getattr(args, "skip_bad", False)
        self.verifier = SpeakerVerifier.load(
            args.model,
            args.device,
            getattr(args, "calibration", None),
            getattr(args, "threshold", None),
            getattr(args, "p_target", None),
        )
        self.bad = set()
        self._changed = False
        self._warned = set()

    def say(self, text):
        """A remark; results alone are printed to standard output."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, warnings):
        """Says each warning once."""
        for warning in warnings:
            if warning not in self._warned:
                self.say(f"warning: {warning}")
                self._warned.add(warning)

    def hear(self, path):
        """An utterance, or None for a bad recording that may be skipped.

        Arguments
        ---------
        path : str
            A recording's; ``-`` is the standard input.

        Returns
        -------
        Heard or None
        """
        source = path
        if path == "-":
            source = io.BytesIO(sys.stdin.buffer.read())
            source.name = "standard input"
        try:
            heard = self.verifier.listen(source)
        except UserError as error:
            if not self.skip_bad:
                raise
            self.say(f"skipped: {error}")
            self.bad.add(path)
            return None
        if heard.change and not self._changed:
            self.say(
                f"{heard.name}: converted, {heard.change}; others likewise, "
                "without a word"
            )
            self._changed = True
        self.warn(heard.warnings)
        return heard

    def hear_all(self, places):
        """Utterances by name, without bad ones that may be skipped.

        Arguments
        ---------
        places : dict
            Name -> path.

        Returns
        -------
        dict
            Name -> Heard.
        """
        gone = [
            p for p in places.values() if p != "-" and not os.path.exists(p)
        ]
        if gone and not self.skip_bad:
            raise UserError(
                f"{gone[0]}: there is no such recording"
                + (f", nor {len(gone) - 1} others" if len(gone) > 1 else "")
                + ("; --skip-bad goes on without" if len(places) > 1 else "")
            )
        # tqdm shows nothing where no terminal is.
        progress = tqdm(
            places.items(),
            desc="Listening",
            unit="rec",
            disable=self.quiet or None,
            leave=False,
        )
        try:
            heard = {name: self.hear(path) for name, path in progress}
        except UserError as error:
            more = "; --skip-bad goes on without it" * (len(places) > 1)
            raise UserError(f"{error}{more}") from error
        heard = {name: found for name, found in heard.items() if found}
        if self.bad:
            print(
                f"{len(places) - len(heard)} of {len(places)} recordings "
                "skipped",
                file=sys.stderr,
            )
        if not heard:
            raise UserError("none of the recordings can be used")
        return heard


def verify(args):
    """Compares two recordings, and decides where it can."""
    if args.recordings == ["-", "-"]:
        raise UserError("only one recording can come from standard input")
    listener = Listener(args)
    if args.exit_status and not listener.verifier.decides:
        raise UserError("--exit-status needs --calibration or --threshold")
    found = listener.verifier.verify(*map(listener.hear, args.recordings))
    print(_json(found) if args.json else found)
    listener.warn(found.warnings)
    if not args.exit_status:
        return 0
    return {True: 0, False: 1, None: 2}[found.same_speaker]


def identify(args):
    """Finds the enrolled voice of each recording."""
    listener = Listener(args)
    listener.verifier.load_voices(args.voices)
    for name, heard in listener.hear_all(_recordings(args)).items():
        found = listener.verifier.identify(heard, args.top)
        listener.warn(found.warnings)
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
    heard = Listener(args).hear_all(_recordings(args))
    save_embeddings(args.output, {n: u.embedding for n, u in heard.items()})
    print(f"{args.output}: {len(heard)} embeddings")


def score(args):
    """Scores the pairs of a list, each recording heard once."""
    known = read_list(args.recordings) if args.recordings else None
    pairs, places = read_pairs(args.pairs, known)
    listener = Listener(args)
    heard = listener.hear_all(places)
    skipped = 0
    with contextlib.ExitStack() as stack:
        file = sys.stdout
        if args.output:
            file = stack.enter_context(atomic_write(args.output))
        for label, first, second in pairs:
            if first not in heard or second not in heard:
                skipped += 1
                continue
            found = listener.verifier.verify(heard[first], heard[second])
            listener.warn(found.warnings)
            if args.json:
                names = {"label": label, "first": first, "second": second}
                line = _json(found, **names)
            else:
                line = _columns(label, first, second, found)
            print(line, file=file)
    said = f"{len(pairs) - skipped} of {len(pairs)} pairs scored"
    if args.output or skipped:
        print(said, file=sys.stderr)


def enrol(args):
    """Adds a voice to a store, which it makes where there is none."""
    listener = Listener(args)
    verifier = listener.verifier
    if os.path.exists(args.voices):
        verifier.load_voices(args.voices)
    verifier.check_name(args.name, args.replace)
    heard = listener.hear_all(_recordings(args))
    verifier.enrol(args.name, list(heard.values()), args.replace)
    verifier.save_voices(args.voices)
    print(
        f"{args.voices}: {args.name} enrolled with {len(heard)} recording(s); "
        f"{len(verifier.voices())} speaker(s)"
    )


def _recordings(args):
    """Name -> path of the recordings that a command line names."""
    places = {path: path for path in args.recordings}
    if args.list:
        places |= read_list(args.list)
    if not places:
        raise UserError("name recordings, or a list of them with --list")
    return places


def _columns(label, first, second, found):
    """A pair's line: what is known, separated by tabs."""
    decided = {True: "same", False: "different", None: None}
    ratio = found.log_likelihood_ratio
    columns = [
        label,
        first,
        second,
        f"{found.cosine:.6f}",
        None if ratio is None else f"{ratio:.4f}",
        decided[found.same_speaker] if found.threshold is not None else None,
    ]
    if columns[5] is None and found.threshold is not None:
        columns[5] = "undecided"
    return "\t".join(column for column in columns if column is not None)


def _json(found, **more):
    return json.dumps({**more, **dataclasses.asdict(found)})
