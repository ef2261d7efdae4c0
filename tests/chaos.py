"""What may befall runs and files, again and again, and what came of it.

    python tests/chaos.py [--quick] [--seed 1986] [--only "kill -9" ...]

Prints a table as Markdown; docs/reliability.md says what its rows are. "Silent"
is what must never be: another result than undisturbed, without a word.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
import torch
from commands import RECIPE, SMALL, TINY, verification, within
from data.test_names import spellings
from test_verifier import THREADS
from warm_start import become

import speechbrain_scl.brain
import speechbrain_scl.training.run  # noqa: F401  imported once for all
from demo.mini import make_mini_corpus
from recipes.VoxCeleb.voxceleb_prepare import prepare_voxceleb
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.training.checkpoints import CompleteCheckpointer
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices.hearing import Heard

TRAINING, VERIFICATION = COMMANDS = (
    "train_speaker_embeddings.py",
    "speaker_verification_cosine.py",
)
Forked = multiprocessing.get_context("fork").Process


def forked(work, *given):
    """A process that does some work."""
    process = Forked(target=work, args=given)
    process.start()
    return process


def status_of(process):
    process.join()
    return process.exitcode


def work(command, run, size):
    """What one of the two does in the folder of a run."""
    corpus = run.parent / "mini"
    if command == TRAINING:
        options = [SMALL[0], *TINY, *within(corpus, run)]
        options += ["--ckpt_interval_minutes=0", "--ckpt_interval_steps=1"]
    else:
        asked = run / "scores", "--score_norm=s-norm"
        options = verification(run, corpus, *asked)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    said = os.devnull, str(run / "said")
    become(0, [command, *options], str(RECIPE), *said, 300, 1, None)


def start(command, run, size=2**40):
    """A process whose files may grow to a size."""
    run.mkdir(exist_ok=True)
    (run / "said").write_text("")
    return forked(work, command, run, size)


def finish(command, run):
    assert status_of(start(command, run)) == 0, (run / "said").read_text()


def stage(command, run):
    """How far it has come."""
    if command == TRAINING:
        prepared = (run / "save/valid.csv").exists()
        return "training" if prepared else "preparation"
    embedded = (run / "scores/test_embeddings.npz").exists()
    return "scoring" if embedded else "extraction"


def bits(run):
    """What it leaves: parameters, the log, and scores."""
    names = "inference/*.ckpt", "train_log.txt", "scores/scores*.txt"
    files = [path for name in names for path in run.glob(name)]
    assert len(files) == 6, files
    return [(path.name, path.read_bytes()) for path in sorted(files)]


def kills(n, draw, whole):
    """kill -9 at any moment, and the same command again."""
    found, longest = Counter(), {}
    while sum(found.values()) < n:
        run = Path(tempfile.mkdtemp(dir=whole.parent))
        for command in COMMANDS:
            for _ in range(8 if len(longest) == 2 else 0):
                process = start(command, run)
                time.sleep(draw.uniform(0, longest[command]))
                at = stage(command, run)
                process.kill()
                if status_of(process) == 0:
                    break  # before
                found[f"in {at}"] += 1
            started = time.monotonic()
            finish(command, run)
            if len(longest) < 2:
                longest[command] = time.monotonic() - started
        found["silent"] += bits(run) != bits(whole)
    return found


def full_disks(n, draw, whole):
    """No file grows beyond a size; the same command once there is room."""
    found = Counter()
    for _ in range(n):
        run = Path(tempfile.mkdtemp(dir=whole.parent))
        size = int(2 ** draw.uniform(8, 18))
        for command in COMMANDS:
            stopped = status_of(start(command, run, size)) != 0
            found["told" if stopped else "had room"] += 1
            found["silent"] += "Traceback" in (run / "said").read_text()
            finish(command, run)
        found["silent"] += bits(run) != bits(whole)
    return found


def flips(n, draw, folder, result):
    """One bit of any file of a folder, and what ``result`` makes of it."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    wanted, found = result(), Counter()
    for i in range(n):
        path = files[i % len(files)]
        content = path.read_bytes()
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            came = "harmless" if result() == wanted else "silent"
        except UserError:
            came = "refused"
        found.update([came] + [f"in {path.name}"] * (came == "silent"))
        path.write_bytes(content)
    return found


def writers(n, draw, store):
    """Two processes enrol voices into one store."""
    encoder = lambda waveforms: None  # noqa: E731  nothing is heard
    encoder.sample_rate, encoder.key = 16000, "chaos"
    verifier = SpeakerVerifier(encoder)

    def work(name):
        for i in range(n // 2):
            with verifier.editing(store):
                heard = Heard("a.wav", np.ones(1), 2.0, 2.0)
                verifier.enrol(f"{name} {i}", heard)

    both = [forked(work, name) for name in "ab"]
    assert [status_of(process) for process in both] == [0, 0]
    verifier.load_voices(store)
    kept = len(verifier.voices())
    return Counter(enrolled=kept, silent=n - kept)


def threads(n, draw, model, paths):
    """As many threads as that ask one verifier, in a process of its own."""
    command = [sys.executable, "-c", THREADS, model, *paths]
    done = [subprocess.run(command, capture_output=True) for _ in range(n)]
    silent = sum(run.stdout != b"30 voices\n" for run in done)
    return Counter({"times 2 and 8 threads": n, "silent": silent})


def cuts(n, draw, path, sound):
    """Recordings in each coding that soundfile writes, cut anywhere."""
    found, kinds = Counter(), {}
    for kind in soundfile.available_formats():
        for coding in soundfile.available_subtypes(kind):
            try:
                soundfile.write(path, *sound, coding, format=kind)
                waveform = read_recording(path).waveform
            except (UserError, soundfile.LibsndfileError, AssertionError):
                continue  # not at this rate, or a cut could not be told
            kinds[f"{kind}/{coding}"] = path.read_bytes(), waveform
    for i in range(n):
        kind = list(kinds)[i % len(kinds)]
        content, whole = kinds[kind]
        path.write_bytes(content[: int(len(content) * draw.uniform(0.1, 1))])
        try:
            heard = read_recording(path)
            same = np.array_equal(heard.waveform, whole)
            came = "harmless" if same else "told" if heard.missing else "silent"
        except UserError:
            came = "refused"
        found.update([came] + [f"in {kind}"] * (came == "silent"))
    found["codings"] = len(kinds)
    return found


def ways(name, root):
    """To spell the name of a file, which is found or refused."""
    yield from spellings(name, root)
    yield from (f"/{name}", f"'{name}'", f"corpus/wav/{name}", name.title())
    yield name.replace("/", "--")


def spelt(n, draw, corpus, folder):
    """A list's names in many spellings: which speakers are trained on."""
    root, path = folder / "corpus", folder / "trials.txt"
    for speaker in (corpus / "wav").iterdir():
        name = unicodedata.normalize("NFD", f"é{speaker.name}")
        shutil.copytree(speaker, root / "wav" / name)
    lines = (corpus / "trials-same-language.txt").read_text().split("\n")[:-1]
    rows = [[a, f"é{b}", f"é{c}"] for a, b, c in map(str.split, lines)]
    tested = {name.split("/")[0] for row in rows for name in row[1:]}
    each = [[*zip(ways(b, root), ways(c, root))] for _, b, c in rows]
    texts = [
        "\n".join(f"{row[0]} {b} {c}" for row, (b, c) in zip(rows, pairs))
        for pairs in zip(*each)
    ]
    texts += ["\ufeff" + texts[0], texts[0].replace("\n", "\r\n\r\n")]
    texts += ["\n".join(f"{b}\t{c}\t{a}" for a, b, c in rows)]
    found = Counter()
    for i, text in enumerate(texts):
        path.write_text(text, newline="")
        save = folder / str(i)
        try:
            prepare_voxceleb(str(root), str(save), str(path), 2)
        except UserError:
            found["refused"] += 1
            continue
        used = {
            unicodedata.normalize("NFC", row.spk_id)
            for manifest in ("train.csv", "valid.csv")
            for row in read_manifest(save / manifest)
        }
        found["silent" if used & tested else "kept out"] += 1
    return found


def main():
    """Runs all, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of all")
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--only", nargs="+", help="these rows of the table")
    options = parser.parse_args()
    draw, share = random.Random(options.seed), 10 if options.quick else 1
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    corpus = folder / "mini"
    make_mini_corpus(str(corpus), 6, 4, 1, seed=1)
    # Whose halves are speech too, which the threads take
    first, second = sorted((corpus / "wav").iterdir())[:2]
    paths = [*sorted(first.rglob("*.wav"))[:2], min(second.rglob("*.wav"))]
    sound = soundfile.read(paths[0], dtype="float32")
    whole = folder / "whole"
    for command in COMMANDS:
        finish(command, whole)
    model, save = whole / "inference", whole / "save"
    (checkpoint,) = save.glob("CKPT+*")

    def embedding():
        encoder = load_encoder(str(model), str(folder / "loaded"))
        return encoder(torch.from_numpy(sound[0])[None]).tolist()

    def resumed():
        return CompleteCheckpointer(save).recover_if_possible().meta

    kinds = {
        "kill -9": (kills, 100, whole),
        "full disk": (full_disks, 12, whole),
        "bit of a model": (flips, 200, model, embedding),
        "bit of a checkpoint": (flips, 500, checkpoint, resumed),
        "two writers": (writers, 500, folder / "voices.npz"),
        "threads": (threads, 10, model, paths),
        "cut recording": (cuts, 2000, folder / "cut.wav", sound),
        "spelling": (spelt, 0, corpus, folder),  # all that there are
    }
    failed = False
    print("| what | silent | what came of it | s |\n|---|--:|---|--:|")
    for name in options.only or kinds:
        function, n, *given = kinds[name]
        started = time.monotonic()
        found = function(max(n // share, 1), draw, *given)
        silent = found.pop("silent", 0)
        failed |= silent > 0
        came = ", ".join(f"{n} {what}" for what, n in sorted(found.items()))
        took = round(time.monotonic() - started)
        print(f"| {name} | {silent} | {came} | {took} |", flush=True)
    shutil.rmtree(folder)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
