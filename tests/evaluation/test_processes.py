"""Extraction and verification on two processes."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import verification
from torch.multiprocessing import ProcessExitedException
from two_processes import results_of

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.evaluation import store
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.verification import verify


def encoder(wavs):
    """Exaggerates what kernels do: it matters who shares a pack."""
    moments = [[wav.std(), wav.abs().mean(), wav[0]] for wav in wavs]
    return torch.tensor(moments) + 1e-3 * torch.cat(wavs).abs().mean()


def extracted(rank, folder):
    """The embeddings, and what it embedded for them. Saves after each pack; in
    its second one a process may "die" with the other one."""
    store.SAVE_SECONDS = 0
    dies, sizes = Path(folder, "dies").exists(), []
    processes = [None, None]
    torch.distributed.all_gather_object(processes, os.getpid())

    def counted(wavs):
        sizes.append(len(wavs))
        if dies and rank == 1 and len(sizes) == 2:
            for process in processes:  # itself last
                os.kill(process, signal.SIGKILL)
        while dies and rank == 0 and len(sizes) == 3:
            time.sleep(0.01)
        return encoder(wavs)

    paths = json.loads(Path(folder, "paths.json").read_text())
    cache = str(Path(folder, "cache"))
    return extract_embeddings(counted, paths, "m", cache, 1), sizes


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

    def stored():
        cache = store.EmbeddingCache(str(tmp_path / "cache"), "m", None)
        return {vector.tobytes() for vector in cache.known.values()}

    (tmp_path / "dies").touch()
    with pytest.raises(ProcessExitedException):
        results_of(extracted, tmp_path)
    (tmp_path / "dies").unlink()
    (tmp_path / "store").unlink()  # where the processes met
    kept = stored()
    assert 0 < len(kept) < len(paths)
    ranks = results_of(extracted, tmp_path)
    embedded = sum(n for _, sizes in ranks for n in sizes)
    assert embedded == len(paths) - len(kept)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    alone = extract_embeddings(encoder, paths, "m", pack_seconds=1)
    for found, _ in ranks:
        assert all(
            found[name].tobytes() == alone[name].tobytes() for name in paths
        )
    assert stored() == {vector.tobytes() for vector in alone.values()}


def test_two_processes_score_as_one(
    trained, corpus, run_warm, tmp_path, one_thread
):
    """As torchrun starts them, with the cohort and the calibration, to the last
    bit."""

    def command(name):
        options = [f"--calibration={trained / 'save' / 'valid.csv'}"]
        options += ["--score_norm=s-norm", "--pack_seconds=4", "--device=cpu"]
        return verification(trained, corpus, tmp_path / name, *options)

    done = run_warm(
        "speaker_verification_cosine.py",
        *command("two"),
        "--distributed_backend=gloo",
        processes=2,
    )
    assert done.stdout.count("Scores, figures") == 1
    verify(*read_experiment(command("one"))[:2])
    names = sorted(p.name for p in (tmp_path / "two").glob("scores*.txt"))
    assert len(names) == 2
    for name in names:
        one, two = (tmp_path / x / name for x in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
