"""Time and memory of the contrastive objective against the batch size.

Forward and backward of ``SupConMarginLoss``, without and with attention,
against pytorch-metric-learning's ``SupConLoss`` and against the least that any
of them has to do: the three B x B x D matrix products (the similarities, and
the gradient of both their sides). All are timed in turn within one process;
each peak of memory is measured in a process of its own.

    python benchmarks/objective.py results/benchmarks

writes objective.md and objective.png there.

    git worktree add ../before COMMIT
    python benchmarks/objective.py results/benchmarks --against ../before

writes objective-against.md instead: this package against that of another
checkout, each in a process of its own, their runs in turn.
"""

import argparse
import inspect
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from speechbrain_scl.losses import SupConMarginLoss

PML, PLAIN, ATTENTION, PRODUCTS = "PML", "ours", "ours + attention", "products"
NAMES = (PML, PLAIN, ATTENTION, PRODUCTS)
# PML holds about this many B x B float32 matrices at its peak.
PML_MATRICES = 12
PML_LIMIT_BYTES = 8 * 2**30
UTTERANCES_PER_SPEAKER = 4


def contestant(name, batch_size, dim):
    """A function that runs one forward and backward, by name."""
    torch.manual_seed(0)
    embeddings = torch.randn(batch_size, dim, requires_grad=True)
    labels = torch.arange(batch_size) % (batch_size // UTTERANCES_PER_SPEAKER)
    attention = torch.rand(batch_size)
    if name == PRODUCTS:
        z = embeddings.detach()

        # In blocks that stay in the cache, as the loss does it: faster.
        block = max(1, 2**20 // batch_size)

        def run():
            grad = torch.zeros_like(z)
            for i in range(0, batch_size, block):
                similarities = z[i : i + block] @ z.T
                grad[i : i + block] += similarities @ z
                grad.addmm_(similarities.T, z[i : i + block])

        return run
    if name == PML:
        from pytorch_metric_learning.losses import SupConLoss

        loss = SupConLoss(temperature=0.07)
        inputs = (labels,)
    else:
        loss = SupConMarginLoss()
        inputs = (labels, attention) if name == ATTENTION else (labels,)

    def run():
        embeddings.grad = None
        loss(embeddings, *inputs).backward()

    return run


def seconds(batch_size, dim, names, budget):
    """Median seconds of each contestant, their runs interleaved."""
    runs = {name: timed(contestant(name, batch_size, dim)) for name in names}
    return medians(runs, budget)


def timed(run):
    """A run that returns its seconds."""

    def seconds_of_run():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds_of_run


def medians(runs, budget):
    """Median of what each run returns, the runs in turn for so many seconds."""
    taken = {name: [] for name in runs}
    for run in runs.values():
        run()
    end = time.perf_counter() + budget
    while len(min(taken.values(), key=len)) < 3 or time.perf_counter() < end:
        for name, run in runs.items():
            taken[name].append(run())
    return {name: statistics.median(times) for name, times in taken.items()}


class Checkout:
    """The loss of a checkout, run in a process of its own on demand.

    Arguments
    ---------
    folder : str
        Where its ``speechbrain_scl`` lies.
    threads : int
        Of that process.
    dim : int
        Of the embeddings.
    """

    def __init__(self, folder, threads, dim):
        command = [sys.executable, __file__, "-", "--threads", str(threads)]
        self.process = subprocess.Popen(
            [*command, "--dim", str(dim), "--serve"],
            env={**os.environ, "PYTHONPATH": os.path.abspath(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = self.process.stdout.readline().strip()

    def run(self, name, batch_size):
        """A function that runs one forward and backward there: seconds."""

        def seconds_of_run():
            print(name, batch_size, file=self.process.stdin, sep=":")
            self.process.stdin.flush()
            return float(self.process.stdout.readline())

        return seconds_of_run

    def close(self):
        """Ends the process."""
        self.process.communicate()


def serve(dim):
    """What ``Checkout`` starts: reads what to run, writes its CPU seconds.

    Small batches run some times on end: a process that has just waited finds
    nothing of its own in the caches. With one thread, CPU seconds are the time
    on an idle machine; others that wait for the same cores do not count.
    """
    print(Path(inspect.getfile(SupConMarginLoss)).parents[1], flush=True)
    runs = {}
    for line in sys.stdin:
        name, batch_size = line.strip().split(":")
        if line not in runs:
            runs[line] = contestant(name, int(batch_size), dim)
        repeats = max(1, 2048 // int(batch_size))
        runs[line]()
        start = time.process_time()
        for _ in range(repeats):
            runs[line]()
        print((time.process_time() - start) / repeats, flush=True)


def against(folder, sizes, dim, threads, budget):
    """Markdown: this package's times and another checkout's.

    Arguments
    ---------
    folder : str
        The other checkout.
    sizes : list of int
        Batch sizes.
    dim, threads : int
        Dimension of the embeddings, threads of each process.
    budget : float
        Seconds per batch size.

    Returns
    -------
    str
    """
    here = Path(__file__).resolve().parents[1]
    new, old = (Checkout(str(f), threads, dim) for f in (here, folder))
    if new.folder == old.folder:
        raise SystemExit(f"{folder}: the loss came from {old.folder} again")
    lines = [
        "| B | ours | before | ours / before | ours + attention | before "
        "+ attention | ours / before |",
        "|" + "--:|" * 7,
    ]
    for batch_size in sizes:
        runs = {
            (checkout, name): checkout.run(name, batch_size)
            for name in (PLAIN, ATTENTION)
            for checkout in (new, old)
        }
        found = medians(runs, budget)
        cells = [str(batch_size)]
        for name in (PLAIN, ATTENTION):
            pair = found[new, name], found[old, name]
            cells += [f"{1e3 * seconds:.2f} ms" for seconds in pair]
            cells.append(f"{pair[0] / pair[1]:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    new.close()
    old.close()
    return "\n".join(lines)


def print_peak(name, batch_size, dim):
    """Peak resident memory above what a small batch has needed, in bytes."""
    contestant(name, 64, dim)()
    run = contestant(name, batch_size, dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) * 1024)


def peak(name, batch_size, dim, threads):
    """The peak, measured in a fresh process."""
    command = [sys.executable, __file__, "-", "--threads", str(threads)]
    command += ["--dim", str(dim), "--peak-of", name, str(batch_size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def table(rows):
    """Markdown, one line per batch size."""
    lines = [
        "| B | PML | ours | ours + attention | 3 products | "
        "PML / ours | ours / products | PML peak | ours peak | "
        "ours / PML peak |",
        "|" + "--:|" * 10,
    ]
    for batch_size, times, peaks in rows:

        def ms(name):
            return f"{times[name] * 1e3:.2f} ms" if name in times else "-"

        def mib(name):
            return f"{peaks[name] / 2**20:.0f} MiB" if name in peaks else "-"

        has_pml = PML in times
        speed = f"{times[PML] / times[PLAIN]:.2f}" if has_pml else "-"
        # A few MiB are lost in what the interpreter had needed before.
        measurable = has_pml and peaks[PML] > 2**25
        memory = f"{peaks[PLAIN] / peaks[PML]:.2f}" if measurable else "-"
        bound = f"{times[PLAIN] / times[PRODUCTS]:.2f}"
        cells = [ms(name) for name in NAMES] + [speed, bound]
        cells += [mib(PML), mib(PLAIN), memory]
        lines.append(f"| {batch_size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows, path):
    """Time and memory over the batch size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for name in NAMES:
        for axis, column, unit in zip(axes, (1, 2), (1e3, 2**-20), strict=True):
            points = [
                (r[0], r[column][name]) for r in rows if name in r[column]
            ]
            x, y = zip(*points, strict=True)
            axis.plot(x, [v * unit for v in y], "o-", label=name)
    for axis, label in zip(
        axes, ("forward + backward, ms", "peak memory, MiB"), strict=True
    ):
        axis.set(xscale="log", yscale="log", xlabel="batch size", ylabel=label)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend()
    figure.savefig(path, dpi=150)


def main():
    """Measures, prints the table and writes it with the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="folder for objective.md and .png")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[2**k for k in range(6, 14)]
    )
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="1 (default): threads that share cores with other programs wait "
        "for one another, which blurs every ratio",
    )
    parser.add_argument(
        "--budget", type=float, default=4.0, help="seconds per batch size"
    )
    parser.add_argument(
        "--against",
        metavar="CHECKOUT",
        help="measure this package against that of another checkout instead",
    )
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.serve:
        serve(args.dim)
        return
    if args.against:
        text = against(
            args.against, args.sizes, args.dim, args.threads, args.budget
        )
        # Not above: another checkout may have another name for it.
        from speechbrain_scl.files import atomic_write

        with atomic_write(Path(args.output) / "objective-against.md") as file:
            file.write(text + "\n")
        print(text)
        return
    if args.peak_of:
        name, batch_size = args.peak_of
        print_peak(name, int(batch_size), args.dim)
        return

    # The memory first: a process starts out with its parent's peak.
    entrants, peaks = {}, {}
    for batch_size in args.sizes:
        names = list(NAMES)
        if batch_size**2 * 4 * PML_MATRICES > PML_LIMIT_BYTES:
            print(f"B = {batch_size}: PML would need more than 8 GiB, left out")
            names.remove(PML)
        entrants[batch_size] = names
        peaks[batch_size] = {
            name: peak(name, batch_size, args.dim, args.threads)
            for name in names
        }
    rows = []
    for batch_size, names in entrants.items():
        times = seconds(batch_size, args.dim, names, args.budget)
        rows.append((batch_size, times, peaks[batch_size]))
        print(table(rows[-1:]).splitlines()[-1], flush=True)

    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, write in (
        ("objective.md", lambda path: path.write_text(table(rows) + "\n")),
        ("objective.png", lambda path: plot(rows, path)),
    ):
        aside = output / f".{name}"
        write(aside)
        aside.replace(output / name)
    print(table(rows))
    print(f"written to {output}")


if __name__ == "__main__":
    main()
