#!/usr/bin/env python3
"""What the number of classes costs: time and memory from the embedding on.

    python benchmarks/classes.py results/benchmarks

A step is SpeechBrain's classifier and AAM-softmax, the class-aware attention,
backward, and Adam on the class vectors, for a batch of embeddings:

- ``AAM-softmax``: without attention;
- ``two products``: the attention multiplies embeddings and class vectors again;
- ``one product``: it takes the classifier's cosines, as the Brain does;
- ``sampled``: that with ``SampledClassifier`` (partial FC).

Each in a process of its own, on one thread: the quickest of some steps, in
processor seconds, and the peak of resident memory above what the libraries had
needed. Leaves classes.md and classes.png.
"""

import measure
import torch

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.training.classifiers import SampledClassifier

EMBEDDING_DIM = 192
WAYS = ["AAM-softmax", "two products", "one product", "sampled"]


def main():
    """Measures, and leaves the table with its picture."""
    args = measure.options(
        __doc__,
        classes=[1_000, 10_000, 100_000, 1_000_000],
        batch=(64, "embeddings of a step"),
        rate=(0.1, "of the sampled classes"),
        steps=(2, "after the first"),
    )
    found, rows = {}, []
    for n in args.classes:
        costs = [measure.alone(cost, way, n, args) for way in WAYS]
        found |= {(n, way): both for way, both in zip(WAYS, costs)}
        cells = (f"{seconds:.3g} s, {mib:,.0f} MiB" for seconds, mib in costs)
        rows.append([f"{n:,}", *cells])
        measure.leave(args.output / "classes.md", ["C", *WAYS], rows)
    draw(found).savefig(args.output / "classes.png", dpi=150)


def cost(way, n_classes, args):
    """Processor seconds of a step, and the peak of memory in MiB."""
    steps_of(way, 10, args)()  # loads the libraries
    times = []

    def run():
        step = steps_of(way, n_classes, args)
        times.extend(measure.spent(step)[1].cpu for _ in range(1 + args.steps))

    _, mib = measure.spent_here(run)
    return min(times[1:]), mib


def steps_of(way, n_classes, args):
    """A function that takes a step of one classifier."""
    torch.manual_seed(0)
    embeddings = torch.randn(args.batch, 1, EMBEDDING_DIM, requires_grad=True)
    labels = torch.randint(n_classes, (args.batch, 1))
    if way == "sampled":
        classifier = SampledClassifier(EMBEDDING_DIM, n_classes, args.rate)
    else:
        classifier = Classifier(EMBEDDING_DIM, out_neurons=n_classes)
    optimizer = torch.optim.Adam(classifier.parameters())
    attention = ClassAwareAttention(10.0)
    aam = LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 30))

    def step():
        if way == "sampled":
            outputs, classes = classifier(embeddings, labels)
        else:
            outputs, classes = classifier(embeddings), labels
        if way == "two products":
            attention(embeddings, classes, classifier.weight)
        elif way != "AAM-softmax":
            attention.of_cosines(outputs, classes)
        aam(outputs, classes).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def draw(found):
    """Seconds and memory over the number of classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    names = "processor seconds of a step", "peak of memory, MiB"
    for i, (axes, name) in enumerate(zip(figure.subplots(1, 2), names)):
        for way, marker in zip(WAYS, "ovs^"):
            points = {n: v[i] for (n, w), v in found.items() if w == way}
            axes.loglog(*zip(*points.items()), marker=marker, label=way)
        axes.set(xlabel="classes", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


if __name__ == "__main__":
    main()
