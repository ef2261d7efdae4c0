"""The commands that hear nothing: a store's voices, and models to give away."""

import tempfile

from speechbrain_scl.errors import UserError
from speechbrain_scl.voices.enrolled import load_voices, save_voices


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
    left = {name: known[name] for name in known if name not in args.names}
    save_voices(args.voices, model, left)
    print(f"{args.voices}: {len(left)} speaker(s) left")


def export(args):
    """Writes the encoder as ONNX, checked against PyTorch."""
    from speechbrain_scl.evaluation.encoder import load_encoder
    from speechbrain_scl.release.onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(args.model, folder)
        difference = export_onnx(encoder, args.output)
    print(
        f"{args.output}: waveform [batch, time] at {encoder.sample_rate} Hz to "
        f"embedding [batch, dim]; onnxruntime differs by {difference:.1e}"
    )


def card(args):
    """Writes the model card, README.md, into an inference folder."""
    from speechbrain_scl.release.hub import write_card

    path = write_card(
        args.model,
        args.metrics,
        args.training_data,
        args.license,
        args.language,
        args.repo,
    )
    print(f"{path}: read it, and say what only you know")


def upload(args):
    """Lists what would be sent to a model hub, or sends it."""
    from speechbrain_scl.release import hub

    for name, size in hub.public_files(args.model).items():
        print(f"{size:12,d}  {name}")
    if args.yes:
        print(hub.upload(args.model, args.repo, args.private))
    else:
        print(f"nothing sent; --yes sends these to {args.repo}")
