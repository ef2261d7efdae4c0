"""The commands that give a trained encoder away."""

import tempfile

from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.release import hub
from speechbrain_scl.release.onnx import export_onnx


def export(args):
    """Writes the encoder as ONNX, checked against PyTorch."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(args.model, folder)
        difference = export_onnx(encoder, args.output)
    print(
        f"{args.output}: waveform [batch, time] at {encoder.sample_rate} Hz to "
        f"embedding [batch, dim]; onnxruntime differs by {difference:.1e}"
    )


def card(args):
    """Writes the model card, README.md, into an inference folder."""
    path = hub.write_card(
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
    for name, size in hub.public_files(args.model).items():
        print(f"{size:12,d}  {name}")
    if args.yes:
        print(hub.upload(args.model, args.repo, args.private))
    else:
        print(f"nothing sent; --yes sends these to {args.repo}")
