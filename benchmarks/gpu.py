#!/usr/bin/env python3
"""All that only a GPU can show, in one command and some ten minutes.

    python benchmarks/gpu.py results/benchmarks

measures on whatever GPU there is, and writes gpu.md, a table:

- CUDA against the CPU in double precision: encoder, attention, loss and its
  gradient, balancing, scores; in fp32 without and with TF32, and in bf16;
- whole training steps, stock AAM-softmax against the full objective (step.py):
  seconds, crops per second, peak memory; fp32 (in which SpeechBrain multiplies
  in TF32), bf16, and compiled;
- embeddings of utterances of 1 to 7 times a crop's length, in packs and as
  SpeechBrain's recipe pads them: seconds of audio per second, and the cosine to
  the utterance alone;
- how often the host waits for the GPU in a step, by CUDA's own count;
- the processes' gather over NCCL with all GPUs, its gradient and its speed.

Each part runs in a process of its own: one that fails, hangs or takes the GPU
with it becomes a row, and the others go on. The table is written after every
row. Without a GPU the same code runs at sizes that measure nothing.
"""

import argparse
import multiprocessing
import os
import signal
import statistics
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import step
import torch
import torch.distributed as dist
import torch.nn.functional as F

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.distributed import gather_rows
from speechbrain_scl.errors import first_line
from speechbrain_scl.evaluation.any_length import AnyLength
from speechbrain_scl.evaluation.scoring import cosine_scores
from speechbrain_scl.files import atomic_write
from speechbrain_scl.losses import SupConMarginLoss

STARTED, STARTING = "started", 120  # seconds that a process may take for it
HEAD = ["| part | case | result |", "|:--|:--|:--|"]
# Largest error that a precision may have, relative to the largest value
PRECISIONS = {"fp32": 1e-4, "TF32": 1e-2, "bf16": 5e-2}
LARGE = {
    "channels": 1024,
    "utterances": 64,
    "views": 2,
    "seconds": 3.0,
    "speakers": 7205,
    "pairs": 15,
    "recordings": 512,
    "megabytes": 256,
}
SMALL = {
    "channels": 8,
    "utterances": 4,
    "views": 2,
    "seconds": 0.5,
    "speakers": 10,
    "pairs": 2,
    "recordings": 5,
    "megabytes": 1,
}


def main():
    """Runs the parts one by one; writes after each row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder for gpu.md")
    add("--modes", nargs="+", choices=step.MODES, metavar="MODE")
    add("--limit", type=float, default=150, help="seconds of a part")
    add("--budget", type=float, default=540, help="seconds of all parts")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    modes = args.modes or (step.MODES if cuda else ["fp32", "bf16"])
    sizes = SimpleNamespace(
        **(LARGE if cuda else SMALL), device="cuda" if cuda else "cpu"
    )
    parts = [
        ("machine", machine, ()),
        ("CUDA against CPU", checks, ()),
        *(("step", steps, (mode,)) for mode in modes),
        ("extraction", extraction, ()),
        ("waits", waits, ()),
        ("processes", processes, ()),
    ]
    rows, end = [], time.monotonic() + args.budget
    for part, function, arguments in parts:
        limit = min(args.limit, end - time.monotonic())
        name = " ".join(arguments) or part
        for case, result in apart(function, (sizes, *arguments), name, limit):
            rows.append(f"| {part} | {case} | {result} |")
            print(rows[-1], flush=True)
            with atomic_write(str(args.output / "gpu.md")) as file:
                file.write("\n".join(HEAD + rows) + "\n")


def apart(function, arguments, name, limit):
    """The rows of a part, out of a process of its own, and how it failed."""
    if limit <= 0:
        yield name, "left out: no time"
        return
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sender, function, arguments))
    process.start()
    sender.close()
    end = time.monotonic() + STARTING
    try:
        while receiver.poll(max(0, end - time.monotonic())):
            row = receiver.recv()
            if row is None:
                return
            if row == STARTED:
                end = time.monotonic() + limit
            else:
                yield row
        yield name, f"failed: not done in {limit:.0f} s"
    except EOFError:
        process.join()
        yield name, f"failed: the process ended with {process.exitcode}"
    finally:
        # What it started goes with it: a process that hangs holds its GPU.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def send(sender, function, arguments):
    """A part's rows, one by one; None at the end."""
    os.setsid()
    torch.set_num_threads(1)  # as the other benchmarks have
    sender.send(STARTED)
    try:
        for row in function(*arguments):
            sender.send(row)
    except Exception as error:
        gist = first_line(error).replace("|", "/")
        sender.send((" ".join(arguments[1:]) or "-", f"failed: {gist}"))
    sender.send(None)


def machine(sizes):
    """What it ran on."""
    yield "versions", f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    if sizes.device == "cpu":
        yield "device", "CPU: sizes that measure nothing"
        return
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        yield (
            f"device {i}",
            f"{about.name}, {about.total_memory / 2**30:.0f} GiB",
        )


def checks(sizes):
    """In all precisions."""
    for precision in PRECISIONS:
        yield from check(sizes, precision)


def check(sizes, precision):
    """Each operation on the device against double precision on the CPU."""
    tf32 = precision == "TF32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    wanted = operations("cpu", torch.float64)
    with torch.autocast(sizes.device, torch.bfloat16, precision == "bf16"):
        found = operations(sizes.device, torch.float32)
    for name, value in wanted.items():
        value, other = value.double(), found[name].detach().cpu().double()
        error = float((other - value).abs().max() / value.abs().max())
        verdict = "ok" if error <= PRECISIONS[precision] else "DIFFERS"
        yield (
            f"{precision}: {name}",
            f"{verdict}, largest relative error {error:.1e}",
        )


def operations(device, dtype):
    """Name -> result, from the same numbers on any device."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    encoder = ECAPA_TDNN(
        80,
        channels=[32, 32, 32, 32, 96],
        attention_channels=16,
        lin_neurons=192,
    )
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
    other = torch.nn.functional.cross_entropy(logits.to(dtype) / 10, labels)
    balance = MinNormBalancer("l2")([other, loss], embeddings)
    unit = torch.nn.functional.normalize(embeddings.detach(), dim=1)
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
        "attention": weights.detach(),
        "loss": loss.detach(),
        "its gradient": gradient,
        "balancing": torch.as_tensor(balance).detach(),
        "scores": scores,
    }


def steps(sizes, mode):
    """Stock and full steps in turn."""
    n = sizes.utterances * sizes.views
    found = step.compare(sizes, mode)
    for name, seconds, peak in (
        ("stock", found.stock, found.stock_peak),
        ("full", found.full, found.full_peak),
    ):
        yield (
            f"{mode}: {name}",
            f"{1000 * seconds:.1f} ms, {n / seconds:,.0f} crops/s, peak {peak}",
        )
    low, middle, high = found.quartiles
    yield f"{mode}: full / stock", f"{middle:.3f} ({low:.3f} to {high:.3f})"


def extraction(sizes):
    """Packs against padded batches and single utterances."""
    torch.manual_seed(0)
    c = sizes.channels
    modules = torch.nn.ModuleDict(
        {
            "compute_features": Fbank(n_mels=80),
            "mean_var_norm": InputNormalization(
                norm_type="sentence", std_norm=False
            ),
            "embedding_model": ECAPA_TDNN(80, channels=4 * [c] + [3 * c]),
        }
    )
    features, norm, model = modules.eval().to(sizes.device).values()
    lengths = (1 + 6 * torch.rand(sizes.recordings)) * sizes.seconds * 16000
    wavs = [torch.randn(int(length)) for length in lengths]

    def padded(wavs):
        n = torch.tensor([len(wav) for wav in wavs], device=sizes.device)
        batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        x = norm(features(batch.to(sizes.device)), n / n.max())
        return model(x, n / n.max()).squeeze(1)

    def by(embed, n):
        return torch.cat(
            [embed(wavs[i : i + n]) for i in range(0, len(wavs), n)]
        )

    packs = AnyLength(lambda batch: padded(list(batch)), modules)
    packs.check(wavs)
    ways = {
        "single": lambda: by(padded, 1),
        "padded by 8": lambda: by(padded, 8),
        "padded by 64": lambda: by(padded, 64),
        "packs of 8": lambda: by(packs, 8),
        "packs of 64": lambda: by(packs, 64),
    }
    with torch.inference_mode():
        alone = by(padded, 1).double()
        for name, way in ways.items():
            times = []
            for _ in range(3):
                start = time.perf_counter()
                cosine = F.cosine_similarity(way().double(), alone).min().item()
                times.append(time.perf_counter() - start)
            rate = sum(map(len, wavs)) / 16000 / statistics.median(times)
            yield name, f"{rate:,.0f} s of audio per s, 1 - {1 - cosine:.1e}"


def waits(sizes):
    """Of a full step, as CUDA warns of them; those of the Brain are counted
    in tests/training/test_waits.py."""
    if sizes.device == "cpu":
        yield "a full step", "a CPU has none"
        return
    batch = step.batch_of(sizes)
    full, _ = step.warmed_up(sizes, "fp32", step.parts(), batch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        full(*batch)
        torch.cuda.set_sync_debug_mode("default")
    places = [
        f"{Path(w.filename).name}:{w.lineno}"
        for w in caught
        if "synchroniz" in str(w.message)
    ]
    yield "a full step", f"{len(places)}: {', '.join(places)}"


def processes(sizes):
    """One process per GPU, or two on the CPU."""
    cuda = sizes.device == "cuda"
    n = torch.cuda.device_count() if cuda else 2
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            one_process, (n, cuda, folder, sizes.megabytes), nprocs=n
        )
        verdicts, seconds = zip(
            *(torch.load(f"{folder}/{rank}.pt") for rank in range(n))
        )
    name = f"{'NCCL' if cuda else 'gloo'}, {n} process(es)"
    right = "ok" if all(verdicts) else "DIFFERS"
    yield f"{name}: gathered rows and gradient", right
    rate = sizes.megabytes / 1024 / max(seconds)
    yield (
        f"{name}: sum of {sizes.megabytes} MiB",
        f"{1000 * max(seconds):.1f} ms, {rate:.1f} GiB/s",
    )


def one_process(rank, n, cuda, folder, megabytes):
    """Leaves whether the gather was right, and the seconds of a sum."""
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=n,
    )
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
    times = []
    for _ in range(5):
        start = time.perf_counter()
        dist.all_reduce(block)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    torch.save((right, statistics.median(times)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
