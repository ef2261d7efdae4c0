"""The commands on a store of voices that need no model."""

from speechbrain_scl.errors import UserError
from speechbrain_scl.voices.store import load_voices, save_voices


def voices(args):
    """Lists the voices of a store."""
    for name, voice in load_voices(args.voices)[1].items():
        print(f"{name}\t{voice.recordings} recording(s)")


def remove(args):
    """Removes voices from a store."""
    model, known = load_voices(args.voices)
    for name in args.names:
        if name not in known:
            raise UserError(
                f"{args.voices}: no voice {name} among {', '.join(known)}"
            )
    for name in args.names:
        known.pop(name, None)
    save_voices(args.voices, model, known)
    print(f"{args.voices}: {len(known)} speaker(s) left")
