"""Extraction and verification on two processes, as torchrun starts them."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import RECIPE, ROOT, trial_option

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.store import EmbeddingCache
from speechbrain_scl.evaluation.verification import verify

TESTS = [str(ROOT / "tests"), str(Path(__file__).parent)]
# Saves after each pack. In its second one a process "dies" with the other and
# with the launcher, which would have told the other one to end.
SCRIPT = """
import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import torch

sys.path[:0] = {tests!r}
from test_processes import encoder
from speechbrain_scl import distributed
from speechbrain_scl.evaluation import embeddings, store

folder, dies = Path(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo")
rank = distributed.rank()
store.SAVE_SECONDS = 0
batches = []
processes = [None, None]
torch.distributed.all_gather_object(processes, os.getpid())
doomed = [os.getppid(), *processes] if dies == "dies" else []  # itself last

def counted(wavs):
    batches.append([len(wavs), len(wavs[0])])
    if rank == 1 and len(batches) == 2:
        for process in doomed:
            os.kill(process, signal.SIGKILL)
    while doomed and rank == 0 and len(batches) == 3:
        time.sleep(0.01)
    return encoder(wavs)

paths = json.loads((folder / "paths.json").read_text())
found = embeddings.extract_embeddings(
    counted, paths, "m", str(folder / "cache"), pack_seconds=1
)
(folder / f"{{rank}}.pickle").write_bytes(pickle.dumps((found, batches)))
distributed.leave_process_group()
"""


def encoder(wavs):
    """Exaggerates what kernels do: it matters who shares a pack."""
    moments = [[wav.std(), wav.abs().mean(), wav[0]] for wav in wavs]
    return torch.tensor(moments) + 1e-3 * torch.cat(wavs).abs().mean()


def torchrun(*command, **kwargs):
    return subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--standalone"),
            "--nproc_per_node=2",
            *map(str, command),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        **kwargs,
    )


@pytest.fixture
def one_thread():
    """As the processes have: the order of a sum depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_killed_and_resumed_on_two_processes(tmp_path, one_thread):
    rng = np.random.default_rng(0)
    paths = {}
    for i in range(26):
        path = tmp_path / f"{i}.wav"
        n = (4000, 5000, 6000)[i % 3]
        soundfile.write(path, 0.1 * rng.normal(size=n), 16000, "FLOAT")
        paths[f"u{i}"] = str(path)
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=TESTS))

    def stored():
        return EmbeddingCache(str(tmp_path / "cache"), "m", None).known

    assert torchrun(script, tmp_path, "dies").returncode == -signal.SIGKILL
    kept = stored()
    assert 0 < len(kept) < len(paths)
    done = torchrun(script, tmp_path, "lives")
    assert done.returncode == 0, done.stderr[-3000:]

    ranks = [
        pickle.loads((tmp_path / f"{r}.pickle").read_bytes()) for r in (0, 1)
    ]
    batches = [batch for _, mine in ranks for batch in mine]
    assert sum(n for n, _ in batches) == len(paths) - len(kept)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    alone = extract_embeddings(encoder, paths, "m", pack_seconds=1)
    for found, _ in ranks:
        assert all(
            found[name].tobytes() == alone[name].tobytes() for name in paths
        )
    assert {v.tobytes() for v in stored().values()} == {
        v.tobytes() for v in alone.values()
    }


def test_two_processes_score_as_one(trained, corpus, tmp_path, one_thread):
    """With the cohort and the calibration, to the last bit."""

    def command(name):
        return [
            "../../../hparams/verification_small.yaml",
            f"--data_folder={corpus}",
            f"--pretrain_path={trained / 'inference'}",
            f"--output_folder={tmp_path / name}",
            f"--cohort={trained / 'save' / 'train.csv'}",
            f"--calibration={trained / 'save' / 'valid.csv'}",
            "--score_norm=s-norm",
            "--bootstrap=0",
            "--pack_seconds=4",
            "--device=cpu",
            trial_option(corpus, "verification_file"),
        ]

    done = torchrun(
        "speaker_verification_cosine.py",
        *command("two"),
        "--distributed_backend=gloo",
        cwd=RECIPE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Scores, figures") == 1
    yaml, *options = command("one")
    verify(*read_experiment([str(RECIPE / yaml), *options])[:2])
    names = sorted(p.name for p in (tmp_path / "two").glob("scores*.txt"))
    assert len(names) == 2
    for name in names:
        one, two = (tmp_path / x / name for x in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
