#!/usr/bin/env python3
"""All that only a GPU can show, in one command and some ten minutes.

    python benchmarks/gpu.py results/benchmarks

measures on whatever GPU there is, and leaves gpu.md:

- CUDA against the CPU in double precision: encoder, attention, loss and its
  gradient, balancing, scores; in fp32 without and with TF32, and in bf16;
- whole training steps, stock AAM-softmax against the full objective (step.py):
  seconds, crops per second, peak memory; fp32 (in which SpeechBrain multiplies
  in TF32), bf16, and compiled;
- embeddings of utterances of 1 to 7 times a crop's length, in packs and as
  SpeechBrain's recipe pads them: seconds of audio per second, and the cosine to
  the utterance alone;
- the processes' gather over NCCL with all GPUs, its gradient and its speed.

Each part runs in a process of its own: one that fails, hangs or takes the GPU
with it becomes a row, and the others go on. Without a GPU the same code runs at
sizes that measure nothing.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from types import SimpleNamespace

import extraction
import measure
import numpy as np
import step
import torch
import torch.distributed as dist
import torch.nn.functional as F

from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.distributed import gather_rows
from speechbrain_scl.evaluation.scoring import cosine_scores
from speechbrain_scl.losses import SupConMarginLoss

# Largest error that a precision may have, relative to the largest value
PRECISIONS = {"fp32": 1e-4, "TF32": 1e-2, "bf16": 5e-2}
LARGE = {"channels": 1024, "utterances": 64, "views": 2, "seconds": 3.0}
LARGE |= {"speakers": 7205, "pairs": 15, "recordings": 512, "megabytes": 256}
SMALL = {"channels": 8, "utterances": 4, "views": 2, "seconds": 0.5}
SMALL |= {"speakers": 10, "pairs": 2, "recordings": 5, "megabytes": 1}


def main():
    """Runs the parts one by one; writes after each."""
    args = measure.options(
        __doc__,
        parts=(list(PARTS), None, PARTS),
        limit=(150.0, "seconds of a part"),
        budget=(540.0, "seconds of all parts"),
    )
    rows, end = [], time.monotonic() + args.budget
    for part in args.parts:
        limit = min(args.limit, end - time.monotonic())
        command = [sys.executable, __file__, "--part", part]
        rows += [[part, *row] for row in rows_of(command, limit)]
        measure.leave(args.output / "gpu.md", ["part", "case", "result"], rows)


def rows_of(command, limit):
    """(case, result) of each line that a part prints, and how it failed."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile() as bad:
        process = subprocess.Popen(
            command, stdout=said, stderr=bad, start_new_session=True
        )
        failed = None
        try:
            if process.wait(max(0, limit)):
                bad.seek(0)
                lines = bad.read().decode(errors="replace").split("\n")
                gist = next((x for x in lines[::-1] if "Error" in x), "")
                failed = f"{gist} (exit status {process.returncode})"
        except subprocess.TimeoutExpired:
            failed = f"not done in {limit:.0f} s"
        finally:
            # What it started goes with it: a process that hangs holds its GPU.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        rows = [line.rstrip("\n").split("\t") for line in said]
    if failed:
        rows.append(["-", f"failed: {failed.replace('|', '/')}"])
    return rows


def machine(sizes):
    """What it ran on."""
    yield "versions", f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    if sizes.device == "cpu":
        yield "device", "CPU: sizes that measure nothing"
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        memory = f"{about.total_memory / 2**30:.0f} GiB"
        yield f"device {i}", f"{about.name}, {memory}"


def checks(sizes):
    """Each operation on the device against double precision on the CPU."""
    for precision, limit in PRECISIONS.items():
        tf32 = precision == "TF32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        wanted = operations("cpu", torch.float64)
        with torch.autocast(sizes.device, torch.bfloat16, precision == "bf16"):
            found = operations(sizes.device, torch.float32)
        for name, value in wanted.items():
            value = value.detach().double()
            other = found[name].detach().cpu().double()
            error = float((other - value).abs().max() / value.abs().max())
            verdict = "ok" if error <= limit else "DIFFERS"
            said = f"{verdict}, largest relative error {error:.1e}"
            yield f"{precision}: {name}", said


def operations(device, dtype):
    """Name -> result, from the same numbers on any device."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    encoder = ECAPA_TDNN(80, channels=[32] * 4 + [96], attention_channels=16)
    encoder = encoder.eval().to(device, dtype)

    def tensor(*shape):
        values = torch.from_numpy(rng.normal(size=shape))
        return values.to(device, dtype)

    classes, centres = tensor(50, 192), tensor(50, 192)
    labels = torch.arange(50, device=device).repeat_interleave(4)
    embeddings = (centres[labels] + tensor(200, 192)).requires_grad_()
    weights = ClassAwareAttention(10.0)(embeddings, labels, classes)
    loss = SupConMarginLoss()(embeddings, labels, weights)
    (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    logits = embeddings @ classes.T
    other = F.cross_entropy(logits.to(dtype) / 10, labels)
    balance = MinNormBalancer("l2")([other, loss], embeddings)
    unit = F.normalize(embeddings.detach(), dim=1)
    scores = unit @ unit.T
    if dtype == torch.float64:  # the engine's own, of the CPU
        n, vectors = len(unit), unit.numpy()
        index = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
        scores = torch.from_numpy(cosine_scores(vectors, vectors, *index))
        scores = scores.reshape(n, n)
    with torch.no_grad():
        encoded = encoder(tensor(4, 100, 80))
    return {
        "encoder": encoded,
        "attention": weights,
        "loss": loss,
        "its gradient": gradient,
        "balancing": torch.as_tensor(balance),
        "scores": scores,
    }


def steps(mode):
    """A part: stock and full steps in turn."""

    def part(sizes):
        n = sizes.utterances * sizes.views
        took, peaks, ratio = step.compare(sizes, mode)
        for name, s in took.items():
            rate = f"{n / s:,.0f} crops/s, peak {peaks[name]}"
            yield name, f"{1000 * s:.1f} ms, {rate}"
        yield "full / stock", ratio

    return part


def embed(sizes):
    """Packs against padded batches and single utterances."""
    wavs = extraction.noise(sizes.recordings, sizes.seconds, 7 * sizes.seconds)
    seconds = sum(map(len, wavs)) / 16000
    ways = extraction.ways_to_embed(sizes.channels, wavs, sizes.device, (8, 64))
    cosines = extraction.from_alone(ways)
    for name, spent in measure.in_turn(ways).items():
        rate = seconds / np.median(spent.clock)
        yield name, f"{rate:,.0f} s of audio per s, {cosines[name]}"


def processes(sizes):
    """One process per GPU, or two on the CPU."""
    cuda = sizes.device == "cuda"
    n = torch.cuda.device_count() if cuda else 2
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            one_process,
            (n, cuda, folder, sizes.megabytes),
            nprocs=n,
            start_method="forkserver",
        )
        verdicts, seconds = zip(
            *(torch.load(f"{folder}/{rank}.pt") for rank in range(n))
        )
    name = f"{'NCCL' if cuda else 'gloo'}, {n} process(es)"
    right = "ok" if all(verdicts) else "DIFFERS"
    yield f"{name}: gathered rows and gradient", right
    rate = sizes.megabytes / 1024 / max(seconds)
    said = f"{1000 * max(seconds):.1f} ms, {rate:.1f} GiB/s"
    yield f"{name}: sum of {sizes.megabytes} MiB", said


def one_process(rank, n, cuda, folder, megabytes):
    """Leaves whether the gather was right, and the seconds of a sum."""
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    backend, meeting = "nccl" if cuda else "gloo", f"file://{folder}/meeting"
    dist.init_process_group(backend, meeting, rank=rank, world_size=n)
    # Rank r has r + 1 rows of r; each process asks for (rank + 1) x sum.
    mine = torch.full((rank + 1, 3), float(rank), device=device)
    mine.requires_grad_()
    (rows,), local = gather_rows(mine)
    (rows.sum() * (rank + 1)).backward()
    wanted = torch.arange(n).repeat_interleave(torch.arange(n) + 1)
    right = torch.equal(rows[:, 0].detach().cpu(), wanted.float())
    right &= local.stop - local.start == rank + 1
    right &= bool((mine.grad == n * (n + 1) / 2).all())
    block = torch.ones(megabytes * 2**18, device=device)
    found = measure.in_turn({"sum": lambda: dist.all_reduce(block)}, rounds=5)
    seconds = np.median(found["sum"].clock)
    torch.save((right, float(seconds)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


PARTS = {"machine": machine, "CUDA against CPU": checks}
PARTS |= {mode: steps(mode) for mode in step.MODES}
PARTS |= {"extraction": embed, "processes": processes}


def run_part(name):
    """Prints a part's rows, one by one."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = LARGE if device == "cuda" else SMALL
    for row in PARTS[name](SimpleNamespace(**sizes, device=device)):
        print(*row, sep="\t", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--part":
        run_part(sys.argv[2])
    else:
        main()
