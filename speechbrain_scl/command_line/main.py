"""Speaker verification with recordings from anywhere, and giving models away.

    speechbrain-scl verify a.wav b.m4a
    speechbrain-scl verify MODEL a.wav - --calibration calibration.json --json
    speechbrain-scl enrol MODEL voices.npz ann a.wav b.wav
    speechbrain-scl identify MODEL voices.npz test.wav --threshold 0.5
    speechbrain-scl embed MODEL --list wav.scp --output embeddings.npz --skip-bad
    speechbrain-scl score MODEL pairs.txt --output scores.txt
    speechbrain-scl calibrate MODEL pairs.csv --output calibration.json
    speechbrain-scl import RECORDINGS data/own
    speechbrain-scl card MODEL --metrics FILE --training-data TEXT --license ID

MODEL is the inference folder of a training, a hub repository such as
speechbrain/spkrec-ecapa-voxceleb, or a short name such as ecapa-voxceleb.
Recordings have any rate, number of channels and format that soundfile or ffmpeg
reads; - is the standard input. Without MODEL, verify takes ecapa-voxceleb and
SpeechBrain's documented threshold. Another model decides by a threshold, or by
the calibration.json of a verification run of it or of calibrate. Status 2 is an
error.
"""

# What is imported here is imported for --help.
import argparse
from importlib import import_module

from speechbrain_scl import __version__
from speechbrain_scl.errors import user_errors_in_one_line

_FLAG = {"action": "store_true"}
_TRUST = "load a model that calls more than models do; from whom you trust"


def main(arguments=None):
    """Runs one command. Its exit status, where there is no error: 1 for
    different speakers and 2 for no decision where ``--exit-status`` asks for
    it, else 0."""
    args = _parser().parse_args(arguments)
    with user_errors_in_one_line(status=2):
        room = import_module(f"speechbrain_scl.command_line.{args.room}")
        name = args.command.replace("import", "import_")
        return getattr(room, name)(args) or 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="speechbrain-scl",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    version = f"%(prog)s {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(room, name, text):
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(room=room, said=set(), quiet=False)
        made.add_argument(
            "--json", help="print JSON, a line per result", **_FLAG
        )
        return made.add_argument

    _speakers(command)
    _manage(command)
    _corpora(command)
    return parser


def _speakers(command):
    add = _listens(command, "verify", "compare two recordings", nargs="?")
    add("recordings", nargs=2, help="two recordings; - is standard input")
    _decides(add)
    said = "end with 0 for the same speaker, 1 for different ones and 2 for no "
    add("--exit-status", help=said + "decision", **_FLAG)
    add = _listens(command, "identify", "find the enrolled voice of recordings")
    add("voices", help="the store that enrol wrote")
    _takes_recordings(add)
    _decides(add)
    add("--top", type=int, default=3, help="how many candidates (default 3)")
    add = _listens(command, "embed", "write the embeddings of recordings")
    _takes_recordings(add)
    add("--output", required=True, help="the file: .npz, .ark or .scp")
    add = _listens(command, "score", "score the pairs of a list")
    _takes_pairs(add, "lines of `first second`, perhaps with labels")
    add("--output", help="the file of scores (default: standard output)")
    _decides(add)
    text = "find the threshold on labelled pairs of your own"
    add = _listens(command, "calibrate", text)
    _takes_pairs(add, "a trial list, or a table with first, second and same")
    add("--output", default="calibration.json", help="default: %(default)s")
    said = "prior of the same speaker, at equal costs (default 0.5)"
    add("--p-target", type=float, default=0.5, help=said)
    add = _listens(command, "enrol", "add a speaker to a store of voices")
    add("voices", help="the store, .npz; it is made where there is none")
    add("name", help="the speaker's name")
    _takes_recordings(add)
    add("--replace", help="replace a voice of this name", **_FLAG)
    add("--add", help="add to a voice of this name", **_FLAG)


def _listens(command, name, text, **model):
    add = command("speakers", name, text)
    said = "an inference folder, hub repository or short name"
    if model:
        said += " (default: ecapa-voxceleb at SpeechBrain's threshold of 0.25)"
    add("model", help=said, **model)
    add("--device", help="such as cpu or cuda (default: the best there is)")
    add("-q", "--quiet", help="results and errors alone", **_FLAG)
    add("--trust", help=_TRUST, **_FLAG)
    return add


def _takes_recordings(add):
    add("recordings", nargs="*", help="recordings; - is standard input")
    add("--list", help="a list of them: a path per line, or wav.scp")
    add("--skip-bad", help="count what cannot be used, and go on", **_FLAG)


def _takes_pairs(add, said):
    add("pairs", help=said)
    said = "a wav.scp, or the .npz that embed wrote, where pairs are of its ids"
    add("--recordings", help=said)
    add("--skip-bad", help="count what cannot be used, and go on", **_FLAG)


def _decides(add):
    add("--calibration", help="a calibration.json of this model")
    said = "prior of the same speaker, at equal costs of both errors, for "
    said += "the calibration's decisions (default 0.5)"
    add("--p-target", type=float, help=said)
    said = "the cosine that decides, instead of a calibration"
    add("--threshold", type=float, help=said)


def _manage(command):
    add = command("manage", "voices", "list the voices of a store")
    add("voices", help="the store that enrol wrote")
    add = command("manage", "remove", "remove voices from a store")
    add("voices", help="the store that enrol wrote")
    add("names", nargs="+", help="the speakers' names")
    said = "put the recipes and their hyperparameters into a folder"
    add = command("manage", "init", said)
    add("folder", help="where `recipes` and `hparams` go")
    add = command("manage", "export", "write the encoder as ONNX")
    add("model", help="an inference folder or hub repository")
    add("output", help="the file, such as model.onnx")
    add("--trust", help=_TRUST, **_FLAG)
    add = command("manage", "card", "write the model card of a folder")
    add("model", help="an inference folder")
    add("--metrics", required=True, help="metrics.json of a verification")
    add("--training-data", required=True, help="what it was trained on")
    add("--license", required=True, help="of the model, such as cc-by-4.0")
    add("--language", nargs="+", default=(), help="such as zh en")
    add("--repo", help="its place on the hub, such as me/ecapa-scl")
    add = command("manage", "upload", "list what a hub would get, or send it")
    add("model", help="an inference folder with its card")
    add("repo", help="the hub repository, such as me/ecapa-scl")
    add("--private", help="for a repository it makes", **_FLAG)
    add("--yes", help="really send", **_FLAG)


def _corpora(command):
    text = "arrange your recordings as a corpus to train and test on"
    add = command("corpora", "import", text)
    said = "a folder with a folder per speaker; a CSV file with the columns "
    said += "path and speaker; or a Kaldi folder (wav.scp, utt2spk, segments)"
    add("recordings", help=said)
    add("corpus", help="the folder to make")
    add("--trials", help="your own trial list, with the recordings' names")
    add("--test-speakers", type=int, help="default: a fifth to a third")
    add("--max-excluded", type=float, default=0.05, help="share of the files")
    add("--encoding", help="of the CSV file or of Kaldi's, such as cp1250")
    add("--seed", type=int, default=1986, help="draws speakers and trials")
    said = "make nothing, but list suspects: damage, one audio of two speakers"
    said += ", no speech and, with --model, what another speaker fits better"
    add("--check", help=said, **_FLAG)
    add("--model", help="for --check: an encoder, such as ecapa-voxceleb")
    add("--without", help="leave out the suspects of a list of --check")
