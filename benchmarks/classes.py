#!/usr/bin/env python3
"""What the number of classes costs: time and memory from the embedding on.

    python benchmarks/classes.py results/benchmarks

A step is SpeechBrain's classifier and AAM-softmax, the class-aware attention,
backward, and Adam on the class vectors, for a batch of embeddings:

- ``AAM-softmax``: without attention;
- ``two products``: the attention multiplies embeddings and class vectors again;
- ``one product``: it takes the classifier's cosines, as the Brain does;
- ``sampled``: that with ``SampledClassifier`` (partial FC).

Each is measured in a process of its own, on one thread: the quickest of some
steps, in seconds of the processor (what other programs leave of it does not
count), and the peak of resident memory above what the libraries had needed.
classes.md and classes.png are written there.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path

import matplotlib
import torch

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.files import atomic_write
from speechbrain_scl.training.classifiers import SampledClassifier

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

EMBEDDING_DIM = 192
WAYS = ["AAM-softmax", "two products", "one product", "sampled"]


def main():
    """Measures, prints the table and writes it with its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder for classes.md and classes.png")
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    add("--classes", type=int, nargs="+", default=sizes, metavar="C")
    add("--batch", type=int, default=64, help="embeddings of a step")
    add("--rate", type=float, default=0.1, help="of the sampled classes")
    add("--steps", type=int, default=2, help="after the first")
    args = parser.parse_args()

    # A process for each: the peak is its own. A copy of this one, which has
    # computed nothing.
    context = multiprocessing.get_context("fork")
    found = {}
    for n_classes in args.classes:
        for way in WAYS:
            with context.Pool(1) as pool:
                case = n_classes, args.batch, args.rate, args.steps
                found[n_classes, way] = pool.apply(measure, (way, *case))
            print(n_classes, way, *found[n_classes, way], flush=True)
    text = table(found)
    print(text)
    with atomic_write(str(args.output / "classes.md")) as file:
        file.write(text)
    draw(found).savefig(args.output / "classes.png", dpi=150)


def measure(way, n_classes, batch, rate, steps):
    """Processor seconds of a step, and the peak of memory in MiB."""
    torch.set_num_threads(1)
    seconds_of_steps(way, 10, batch, rate, 1)  # loads the libraries
    before = peak()
    times = seconds_of_steps(way, n_classes, batch, rate, 1 + steps)
    return min(times[1:]), peak() - before


def seconds_of_steps(way, n_classes, batch, rate, steps):
    """One after the other, of one classifier."""
    torch.manual_seed(0)
    embeddings = torch.randn(batch, 1, EMBEDDING_DIM, requires_grad=True)
    labels = torch.randint(n_classes, (batch, 1))
    if way == "sampled":
        classifier = SampledClassifier(EMBEDDING_DIM, n_classes, rate)
    else:
        classifier = Classifier(EMBEDDING_DIM, out_neurons=n_classes)
    optimizer = torch.optim.Adam(classifier.parameters())
    times = []
    for _ in range(steps):
        start = time.process_time()
        loss(way, classifier, embeddings, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time() - start)
    return times


def peak():
    """Of the process's resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def loss(way, classifier, embeddings, labels):
    """Of the classification; the attention is computed and left."""
    attention = ClassAwareAttention(10.0)
    if way == "sampled":
        outputs, labels = classifier(embeddings, labels)
    else:
        outputs = classifier(embeddings)
    if way == "two products":
        attention(embeddings, labels, classifier.weight)
    elif way != "AAM-softmax":
        attention.of_cosines(outputs, labels)
    classification = LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 30))
    return classification(outputs, labels)


def table(found):
    """A row for each number of classes, a cell for each way."""
    lines = ["| C | " + " | ".join(WAYS) + " |", "|--:" * (1 + len(WAYS)) + "|"]
    for n_classes in dict.fromkeys(n for n, _ in found):
        cells = [f"{n_classes:,}"]
        for way in WAYS:
            seconds, mib = found[n_classes, way]
            cells.append(f"{seconds:.3g} s, {mib:,.0f} MiB")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found):
    """Seconds and memory over the number of classes."""
    figure, panels = plt.subplots(
        1, 2, figsize=(9, 3.5), layout="constrained", sharex=True
    )
    names = "processor seconds of a step", "peak of memory, MiB"
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        for way, marker in zip(WAYS, "ovs^", strict=True):
            points = {n: v[i] for (n, w), v in found.items() if w == way}
            axes.loglog(*zip(*points.items()), marker=marker, label=way)
        axes.set(xlabel="classes", ylabel=name)
        axes.grid(alpha=0.3)
    panels[0].legend()
    return figure


if __name__ == "__main__":
    main()
