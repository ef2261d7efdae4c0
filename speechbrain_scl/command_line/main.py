"""The command line: recordings rather than corpora, and giving models away.

    speechbrain-scl verify MODEL a.wav b.wav [--calibration FILE]
    speechbrain-scl embed MODEL a.wav b.wav --output embeddings.npz
    speechbrain-scl enrol MODEL VOICES.npz ann a.wav b.wav
    speechbrain-scl score MODEL VOICES.npz test.wav [--calibration FILE]
    speechbrain-scl export MODEL model.onnx
    speechbrain-scl card MODEL --metrics FILE --training-data TEXT --license ID
    speechbrain-scl upload MODEL REPOSITORY [--yes]

MODEL is the inference folder of a training, or a hub repository such as
speechbrain/spkrec-ecapa-voxceleb. Recordings are 16 kHz mono wav or flac
(python -m speechbrain_scl.corpora.own converts others). The calibration is the
calibration.json of a verification run: it turns a cosine into a log-likelihood
ratio, and the decision is right at the prior that --p-target names.
"""

import argparse
import os
import tempfile

import numpy as np

from speechbrain.utils.distributed import infer_device
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.evaluation.store import load_embeddings, save_embeddings
from speechbrain_scl.release.hub import (
    public_files,
    upload as hub_upload,
    write_card,
)
from speechbrain_scl.release.onnx import export_onnx

# What a store of voices remembers the model by.
_MODEL = "model:"


def verify(args):
    """Scores two recordings, and decides where it can."""
    key, vectors = embed_files(args.model, args.recordings)
    first, second = (vectors[path] for path in args.recordings)
    calibration = read_calibration(args, key)
    print(decision(float(first @ second), calibration, args.p_target))


def embed(args):
    """Writes the recordings' embeddings."""
    _, vectors = embed_files(args.model, args.recordings)
    save_embeddings(args.output, vectors)
    print(f"{args.output}: {len(vectors)} embeddings")


def enrol(args):
    """Adds a speaker to a store of voices, or replaces it."""
    key, vectors = embed_files(args.model, args.recordings)
    voices = {}
    if os.path.exists(args.voices):
        voices = read_voices(args.voices, key)
    voices[args.name] = mean_embedding(list(vectors.values()))
    marker = {_MODEL + key: np.zeros_like(voices[args.name])}
    save_embeddings(args.voices, {**marker, **voices})
    print(
        f"{args.voices}: {args.name} enrolled with {len(vectors)} "
        f"recording(s); {len(voices)} speaker(s)"
    )


def score(args):
    """Scores recordings against every voice of a store."""
    key, vectors = embed_files(args.model, args.recordings)
    voices = read_voices(args.voices, key)
    calibration = read_calibration(args, key)
    for path, vector in vectors.items():
        scores = {name: float(voice @ vector) for name, voice in voices.items()}
        for name in sorted(scores, key=scores.get, reverse=True):
            said = decision(scores[name], calibration, args.p_target)
            print(f"{path}  {name}  {said}")


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
    for name, size in public_files(args.model).items():
        print(f"{size:12,d}  {name}")
    if args.yes:
        print(hub_upload(args.model, args.repo, args.private))
    else:
        print(f"nothing sent; --yes sends these to {args.repo}")


def embed_files(model, paths):
    """The model's key, and path -> embedding.

    Arguments
    ---------
    model : str
        A folder or hub repository.
    paths : list of str
        Recordings.

    Returns
    -------
    key : str
        Changes with the model.
    embeddings : dict
        Path -> numpy.ndarray [dim], unit length.

    Raises
    ------
    UserError
        A recording that is not there or cannot be used.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise UserError(f"{path}: there is no such recording")
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(model, folder, infer_device())
        vectors = extract_embeddings(
            encoder,
            {path: path for path in paths},
            encoder.key,
            sample_rate=encoder.sample_rate,
        )
    return encoder.key, vectors


def read_voices(path, key):
    """The voices of a store that this model made.

    Arguments
    ---------
    path : str
        As ``enrol`` wrote it.
    key : str
        The model's.

    Returns
    -------
    dict
        Name -> numpy.ndarray [dim].

    Raises
    ------
    UserError
        No such store, or another model's.
    """
    voices = load_embeddings(path)
    if _MODEL + key not in voices:
        raise UserError(
            f"{path}: its voices were enrolled with another model; enrol them "
            "again with this one"
        )
    return {n: v for n, v in voices.items() if not n.startswith(_MODEL)}


def read_calibration(args, key):
    """The calibration that a command names, of this model, or None."""
    if args.calibration is None:
        return None
    return Calibration.load(args.calibration, model=key)


def decision(cosine, calibration, p_target):
    """A score in words.

    Arguments
    ---------
    cosine : float
        Of two embeddings.
    calibration : Calibration or None
        Of the model that made them.
    p_target : float
        Prior of the same speaker, at equal costs of both errors.

    Returns
    -------
    str

    Example
    -------
    >>> decision(0.5, None, 0.5)
    'cosine 0.500; no decision without --calibration'
    >>> calibration = Calibration(20.0, -8.0, 0.01, 1000)
    >>> decision(0.7, calibration, 0.5)
    'cosine 0.700, log-likelihood ratio 6.00 >= 0.00: same speaker'
    >>> decision(0.5, calibration, 0.01)
    'cosine 0.500, log-likelihood ratio 2.00 < 4.60: different speakers'
    """
    if calibration is None:
        return f"cosine {cosine:.3f}; no decision without --calibration"
    found = calibration.decide(cosine, p_target)
    said = (
        f"cosine {cosine:.3f}, log-likelihood ratio {found.llr:.2f} "
        f"{'>=' if found.same_speaker else '<'} {found.threshold:.2f}: "
        f"{'same speaker' if found.same_speaker else 'different speakers'}"
    )
    if found.miss is not None:
        said += (
            f" (at this threshold the calibration's own pairs had "
            f"{100 * found.miss:.1f} % misses and "
            f"{100 * found.false_alarm:.1f} % false alarms)"
        )
    if not found.in_reach:
        said += (
            f"; out of reach: at p_target {p_target:g} the threshold is a "
            f"cosine of {found.score_threshold:.3f}, which no recordings have"
        )
    return said


def main(arguments=None):
    """Reads the command line and runs one command.

    Arguments
    ---------
    arguments : list of str or None
        Those of the program.
    """
    parser = argparse.ArgumentParser(
        prog="speechbrain-scl",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, *positional):
        made = commands.add_parser(run.__name__, help=run.__doc__)
        made.set_defaults(run=run)
        made.add_argument("model", help="a folder or hub repository")
        for name in positional:
            made.add_argument(name)
        return made

    def decides(made):
        made.add_argument("--calibration", help="a calibration.json")
        made.add_argument(
            "--p-target",
            type=float,
            default=0.5,
            help="prior of the same speaker, at equal costs (default 0.5)",
        )

    made = command(verify)
    made.add_argument("recordings", nargs=2)
    decides(made)
    made = command(embed)
    made.add_argument("recordings", nargs="+")
    made.add_argument("--output", required=True, help=".npz, .ark or .scp")
    made = command(enrol, "voices", "name")
    made.add_argument("recordings", nargs="+")
    made = command(score, "voices")
    made.add_argument("recordings", nargs="+")
    decides(made)
    command(export, "output")
    made = command(card)
    add = made.add_argument
    add("--metrics", required=True, help="metrics.json of a verification")
    add("--training-data", required=True, help="what it was trained on")
    add("--license", required=True, help="of the model, such as cc-by-4.0")
    add("--language", nargs="+", default=(), help="such as zh en")
    add("--repo", help="its place on the hub, such as me/ecapa-scl")
    made = command(upload, "repo")
    made.add_argument("--private", action="store_true")
    made.add_argument("--yes", action="store_true", help="really send")
    args = parser.parse_args(arguments)
    with user_errors_in_one_line():
        args.run(args)
