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
    parser = measure.parser(__doc__)
    add = parser.add_argument
    sizes = [1_000, 10_000, 100_000, 1_000_000]
    add("--classes", type=int, nargs="+", default=sizes, metavar="C")
    add("--batch", type=int, default=64, help="embeddings of a step")
    add("--rate", type=float, default=0.1, help="of the sampled classes")
    add("--steps", type=int, default=2, help="after the first")
    args = parser.parse_args()
    found, rows = {}, []
    for n_classes in args.classes:
        rows.append([f"{n_classes:,}"])
        for way in WAYS:
            case = n_classes, args.batch, args.rate, args.steps
            seconds, mib = measure.alone(cost, way, *case)
            found[n_classes, way] = seconds, mib
            rows[-1].append(f"{seconds:.3g} s, {mib:,.0f} MiB")
        text = measure.table(["C", *WAYS], rows)
        measure.leave(args.output / "classes.md", text)
    draw(found).savefig(args.output / "classes.png", dpi=150)


def cost(way, n_classes, batch, rate, steps):
    """Processor seconds of a step, and the peak of memory in MiB."""
    seconds_of_steps(way, 10, batch, rate, 1)  # loads the libraries
    before = measure.peak_mib()
    times = seconds_of_steps(way, n_classes, batch, rate, 1 + steps)
    return min(times[1:]), measure.peak_mib() - before


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

    def step():
        loss(way, classifier, embeddings, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return [measure.spent(step).cpu for _ in range(steps)]


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
