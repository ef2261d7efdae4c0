"""What may befall runs, again and again, and what came of it.

    python tests/chaos.py [--quick] [--seed 1986]

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
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from commands import RECIPE, SMALL, TINY, trial_option
from warm_start import become

import speechbrain_scl.brain
import speechbrain_scl.training.run  # noqa: F401  imported once for all
from demo.mini import make_mini_corpus

TRAINING = ["train_speaker_embeddings.py", SMALL[0], *TINY]
TRAINING += ["--ckpt_interval_minutes=0", "--ckpt_interval_steps=1"]
VERIFICATION = ["speaker_verification_cosine.py", "--score_norm=s-norm"]
VERIFICATION.insert(1, "../../../hparams/verification_small.yaml")
COMMANDS = TRAINING, VERIFICATION


def forked(work):
    """A process that does some work."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def status_of(process):
    process.join()
    return process.exitcode


def start(command, run, size=2**40):
    """A process in the folder of a run, whose files may grow to a size."""
    corpus, scores = run.parent / "mini", run / "scores"
    verifies = command is VERIFICATION
    command = [
        *command,
        f"--data_folder={corpus}",
        f"--output_folder={scores if verifies else run}",
        trial_option(corpus, "verification_file"),
    ]
    if verifies:
        command.append(f"--pretrain_path={run / 'inference'}")
        command.append(f"--cohort={run / 'save/train.csv'}")

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        become(command, str(RECIPE), os.devnull, str(run / "said"), 300)

    run.mkdir(exist_ok=True)
    (run / "said").write_text("")
    return forked(work)


def finish(command, run):
    assert status_of(start(command, run)) == 0, (run / "said").read_text()


def stage(command, run):
    """How far it has come."""
    if command is TRAINING:
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
                time.sleep(draw.uniform(0, longest[command[0]]))
                at = stage(command, run)
                process.kill()
                if status_of(process) == 0:
                    break  # before
                found[f"in {at}"] += 1
            started = time.monotonic()
            finish(command, run)
            if len(longest) < 2:
                longest[command[0]] = time.monotonic() - started
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


def main():
    """Runs all, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of all")
    parser.add_argument("--seed", type=int, default=1986)
    options = parser.parse_args()
    draw, share = random.Random(options.seed), 10 if options.quick else 1
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    corpus = folder / "mini"
    make_mini_corpus(str(corpus), 6, 4, 1, seed=1)
    whole = folder / "whole"
    for command in COMMANDS:
        finish(command, whole)
    failed = False
    print("| what | silent | what came of it | s |\n|---|--:|---|--:|")
    for function, n in (kills, 100), (full_disks, 12):
        started = time.monotonic()
        found = function(max(n // share, 1), draw, whole)
        silent = found.pop("silent", 0)
        failed |= silent > 0
        came = ", ".join(f"{n} {what}" for what, n in sorted(found.items()))
        took = round(time.monotonic() - started)
        print(
            f"| {function.__name__} | {silent} | {came} | {took} |", flush=True
        )
    shutil.rmtree(folder)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
