"""The commands that hear nothing: a store's voices, and models to give away."""

import os
import shlex
import shutil
import tempfile
from pathlib import Path

import speechbrain_scl
from speechbrain_scl.command_line.console import result
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_folder
from speechbrain_scl.voices.enrolled import load_voices, locked, save_voices


def voices(args):
    """Lists the voices of a store."""
    for name, (_, count, _) in load_voices(args.voices)[1].items():
        said = f"{name}\t{count} recording(s)"
        result(args, said, name=name, recordings=count)


def remove(args):
    """Removes voices from a store."""
    with locked(args.voices):
        model, left = load_voices(args.voices)
        names = ", ".join(left)
        for name in dict.fromkeys(args.names):
            if not left.pop(name, None):
                raise UserError(f"{args.voices}: no voice {name} among {names}")
        save_voices(args.voices, model, left)
    result(args, f"{args.voices}: {len(left)} speaker(s) left", left=[*left])


def export(args):
    """Writes the encoder as ONNX, checked against PyTorch."""
    from speechbrain_scl.evaluation.encoder import load_encoder
    from speechbrain_scl.release.onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(args.model, folder, trust=args.trust)
        difference = export_onnx(encoder, args.output)
    result(
        args,
        f"{args.output}: waveform [batch, time] at {encoder.sample_rate} Hz to "
        f"embedding [batch, dim]; onnxruntime differs by {difference:.1e}",
        output=args.output,
        sample_rate=encoder.sample_rate,
        difference=difference,
    )


def card(args):
    """Writes the model card, README.md, into an inference folder."""
    from speechbrain_scl.release.hub import write_card

    about = args.training_data, args.license, args.language, args.repo
    path = write_card(args.model, args.metrics, *about)
    result(args, f"{path}: read it, and say what only you know", card=path)


def upload(args):
    """Lists what would be sent to a model hub, or sends it."""
    from speechbrain_scl.release import hub

    for name, size in hub.public_files(args.model).items():
        result(args, f"{size:12,d}  {name}", file=name, bytes=size)
    place = None
    if args.yes:
        place = hub.upload(args.model, args.repo, args.private)
    nothing = f"nothing sent; --yes sends these to {args.repo}"
    result(args, place or nothing, sent=place)


def init(args):
    """Puts the recipes and their hyperparameters into a folder."""
    package = Path(speechbrain_scl.__file__).parent
    # In a wheel they are within the package, in a clone beside it.
    inside = package / "experiments"
    source = inside if inside.is_dir() else package.parent
    how = {"ignore": shutil.ignore_patterns("__pycache__", "results", "data")}
    for name in ("recipes", "hparams"):  # as setup.py puts them into a wheel
        target = os.path.join(args.folder, name)
        if os.path.lexists(target):
            raise UserError(f"{target}: is there already; name a new folder")
        with atomic_folder(target) as aside:
            shutil.copytree(source / name, aside, dirs_exist_ok=True, **how)
    recipe = os.path.join(args.folder, "recipes", "VoxCeleb", "SpeakerRec")
    train = "python train_speaker_embeddings.py hparams/ecapa_scl.yaml"
    train += " --data_folder=/path/to/VoxCeleb1"
    lines = f"cd {shlex.quote(recipe)}", train
    result(args, *lines, folder=args.folder, recipe=recipe)
