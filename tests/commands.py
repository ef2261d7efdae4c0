"""The recipe's commands at a size for tests."""

import contextlib
import csv
import re
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_scl.data.recordings import ffmpeg_program

ROOT = Path(__file__).resolve().parents[1]
# SpeechBrain's own recipes of VoxCeleb, as they are (of commit 9c826ef39)
RECIPE = ROOT / "recipes" / "VoxCeleb" / "SpeakerRec"
SMALL = [
    "../../../hparams/ecapa_small.yaml",
    "--number_of_epochs=2",
    "--valid_speakers=2",
    "--speakers_per_batch=4",
    "--sentence_len=0.5",
    "--valid_len=0.5",
    "--embedding_model={channels: [16, 16, 16, 16, 48], attention_channels: 8}",
]
# The same for any training file
TINY = [
    *SMALL[1:],
    "--number_of_epochs=1",
    "--speakers_per_batch=3",
    "--num_workers=0",
]
# The tests' corpus: six training and four test speakers
MINI = {"n_train": 6, "n_test": 4, "utterances_per_language": 1, "seed": 1}
LISTS = ("trials-same-language", "trials-cross-language")


def trial_option(corpus, key, lists=LISTS):
    """The corpus's own lists as an option of the command line."""
    paths = ", ".join(str(corpus / f"{name}.txt") for name in lists)
    return f"--{key}=[{paths}]"


def within(corpus, output, lists=LISTS):
    """The options that every script of the recipe is given."""
    options = [f"--data_folder={corpus}", f"--output_folder={output}"]
    return [*options, trial_option(corpus, "verification_file", lists)]


def verification(trained, corpus, output, *options, lists=LISTS):
    """The arguments of a verification by what a training left."""
    return [
        str(ROOT / "hparams" / "verification_small.yaml"),
        *within(corpus, output, lists),
        f"--pretrain_path={trained / 'inference'}",
        f"--cohort={trained / 'save' / 'train.csv'}",
        "--bootstrap=0",
        *options,
    ]


@contextlib.contextmanager
def files_of_at_most(size):
    """No file can grow beyond so many bytes, as on a full disk."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def write_noise(path, seconds=1.0, rate=16000, channels=1, seed=0, **options):
    """A recording in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = int(seconds * rate), channels
    signal = 0.1 * np.random.default_rng(seed).normal(size=shape)
    soundfile.write(path, signal, rate, **options)
    return str(path)


def by_ffmpeg(path, signal, rate, *options, check=True):
    """Writes what soundfile does not."""
    source = path.with_name("source.flac")
    soundfile.write(source, signal, rate)
    command = [ffmpeg_program(), "-v", "error", "-i", source, *options, path]
    subprocess.run(command, check=check)
    source.unlink()


def read_rows(path):
    """Those of a CSV file, by the names of their columns."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def readme_blocks(language):
    """Those of the README's section on SpeechBrain's own recipe."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.split("## From SpeechBrain's own recipe\n")[1]
    blocks = rf"```{language}\n(.*?)```"
    return re.findall(blocks, text.split("\n## ")[0], re.DOTALL)


def without(key, text, indent=""):
    """A yaml text without a key and what belongs to it."""
    pattern = rf"(?m)^{indent}{key}:.*\n(?:{indent}[ \t]+.*\n)*"
    text, n = re.subn(pattern, "", text)
    assert n == 1, key
    return text
