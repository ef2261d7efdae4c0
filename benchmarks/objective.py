"""Time and memory of the contrastive loss against the batch size.

    python benchmarks/objective.py results/benchmarks

Forward and backward of ``SupConMarginLoss``, without and with attention,
against pytorch-metric-learning's ``SupConLoss`` and the least that any of them
has to do: three B x B x D matrix products (the similarities, and the gradient
of both their sides). Processor seconds on one thread, all in turn; each peak of
memory in a process of its own. Leaves objective.md.
"""

import measure
import numpy as np
import torch

from speechbrain_scl.losses import SupConMarginLoss

PML, PLAIN, ATTENTION, PRODUCTS = "PML", "ours", "ours + attention", "products"
NAMES = (PML, PLAIN, ATTENTION, PRODUCTS)
DIM, UTTERANCES_PER_SPEAKER = 192, 4


def contestant(name, batch_size):
    """A function that runs one forward and backward, by name."""
    torch.manual_seed(0)
    embeddings = torch.randn(batch_size, DIM, requires_grad=True)
    labels = torch.arange(batch_size) % (batch_size // UTTERANCES_PER_SPEAKER)
    inputs = (labels,)
    if name == PRODUCTS:
        return lambda: products(embeddings.detach())
    if name == PML:
        from pytorch_metric_learning.losses import SupConLoss

        loss = SupConLoss(temperature=0.07)
    else:
        loss = SupConMarginLoss()
        if name == ATTENTION:
            inputs = (labels, torch.rand(batch_size))

    def run():
        embeddings.grad = None
        loss(embeddings, *inputs).backward()

    return run


def products(z):
    """In blocks that stay in the cache, as the loss does it: faster."""
    gradient = torch.zeros_like(z)
    step = max(1, 2**20 // len(z))
    for i in range(0, len(z), step):
        similarities = z[i : i + step] @ z.T
        gradient[i : i + step] += similarities @ z
        gradient.addmm_(similarities.T, z[i : i + step])


def peak(name, batch_size):
    """MiB of resident memory above what a small batch has needed."""
    contestant(name, 64)()
    return measure.spent_here(contestant(name, batch_size))[1]


def main():
    """Measures, and writes the table after each size."""
    sizes = [2**k for k in range(6, 14)]
    args = measure.options(__doc__, sizes=sizes, seconds=(4.0, "of a size"))
    peaks = {
        (name, size): measure.alone(peak, name, size)
        for size in args.sizes
        for name in (PML, PLAIN)
    }
    torch.set_num_threads(1)
    head = ["B", *NAMES, "PML / ours", "ours / products"]
    head += ["PML peak", "ours peak"]
    rows = []
    for size in args.sizes:
        runs = {name: contestant(name, size) for name in NAMES}
        times = measure.in_turn(runs, seconds=args.seconds)
        took = {name: 1e3 * np.median(times[name].cpu) for name in NAMES}
        cells = [str(size), *(f"{took[name]:.3g} ms" for name in NAMES)]
        cells.append(f"{took[PML] / took[PLAIN]:.2f}")
        cells.append(f"{took[PLAIN] / took[PRODUCTS]:.2f}")
        cells += [f"{peaks[name, size]:.0f} MiB" for name in (PML, PLAIN)]
        rows.append(cells)
        measure.leave(args.output / "objective.md", head, rows)


if __name__ == "__main__":
    main()
