"""One whole training step: the full objective against AAM-softmax alone.

Both train the same ECAPA-TDNN on the same two views of the same batch, from
the waveforms to the optimiser's step. ``stock`` is SpeechBrain's AAM-softmax;
``full`` adds the class-aware attention, the margin-contrastive loss and the
balancing at the embedding. The steps are timed in turn, and the ratio is the
median over pairs of neighbouring steps. Modes: fp32, bf16 (autocast), and
either with ``-compiled`` (torch.compile of the encoder). The operations are
counted in the matrix products and convolutions of one full step; peak memory
is CUDA's.

    python benchmarks/step.py results/benchmarks [--modes fp32 bf16 bf16-compiled]

writes step.md there.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.files import atomic_write
from speechbrain_scl.losses import SupConMarginLoss

SAMPLE_RATE = 16000
N_MELS = 80
EMBEDDING_DIM = 192
MODES = ["fp32", "bf16", "fp32-compiled", "bf16-compiled"]


class Step:
    """A training step; ``parts`` holds what goes beyond AAM-softmax."""

    def __init__(self, args, mode, parts=None):
        torch.manual_seed(0)
        self.device = torch.device(args.device)
        self.half = mode.startswith("bf16")
        self.features = Fbank(n_mels=N_MELS).to(args.device)
        self.normalise = InputNormalization(
            norm_type="sentence", std_norm=False
        )
        self.encoder = ECAPA_TDNN(
            N_MELS,
            channels=[args.channels] * 4 + [3 * args.channels],
            kernel_sizes=[5, 3, 3, 3, 1],
            dilations=[1, 2, 3, 4, 1],
            attention_channels=128,
            lin_neurons=EMBEDDING_DIM,
        ).to(args.device)
        self.embed = self.encoder
        if mode.endswith("-compiled"):
            self.embed = torch.compile(self.encoder)
        self.classifier = Classifier(
            EMBEDDING_DIM, device=args.device, out_neurons=args.speakers
        )
        self.classification = LogSoftmaxWrapper(
            AdditiveAngularMargin(margin=0.2, scale=30)
        )
        self.parts = parts
        self.optimizer = torch.optim.Adam(
            [*self.encoder.parameters(), *self.classifier.parameters()]
        )

    def __call__(self, waveforms, labels):
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            loss = self.loss(waveforms, labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self, waveforms, labels):
        """What the step goes backward from, as the Brain finds it: classifier
        in float32, its cosines given on, and the speakers found on the host.
        """
        lengths = torch.ones(len(waveforms), device=self.device)
        features = self.normalise(self.features(waveforms), lengths)
        embeddings = self.embed(features).float()
        labels_on_host, labels = (
            labels,
            labels.to(self.device, non_blocking=True),
        )
        with torch.autocast(self.device.type, enabled=False):
            outputs = self.classifier(embeddings)
        loss = self.classification(outputs, labels[:, None])
        if self.parts is None:
            return loss
        attention, contrast, balancer = self.parts
        weights = attention.of_cosines(outputs, labels)
        losses = [loss, contrast(embeddings, labels_on_host, weights)]
        return torch.stack(losses).dot(balancer(losses, embeddings))


def seconds(step, *batch):
    """Of one step."""
    start = time.perf_counter()
    step(*batch)
    if step.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="folder for step.md")
    parser.add_argument("--channels", type=int, default=512, help="of ECAPA")
    parser.add_argument("--speakers", type=int, default=1211)
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", default="cpu", help="or cuda")
    parser.add_argument("--pairs", type=int, default=15, help="of steps")
    parser.add_argument(
        "--modes", nargs="+", default=["fp32"], choices=MODES, metavar="MODE"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="see objective.py"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    lines = [
        "| C | utterances x views | mode | stock | full | full / stock "
        "(quartiles) | TFLOP | peak, stock | peak, full |",
        "|--:|--:|:--|--:|--:|--:|--:|--:|--:|",
    ]
    # A process for each: what one leaves does not count for the next.
    context = multiprocessing.get_context("spawn")
    for mode in args.modes:
        with context.Pool(1) as pool:
            lines.append(pool.apply(measure, (args, mode)))
        print(lines[-1])
    text = "\n".join(lines) + "\n"
    print(text)
    with atomic_write(str(Path(args.output) / "step.md")) as file:
        file.write(text)
    print(f"written to {args.output}")


class Comparison(NamedTuple):
    """Median seconds of a step, quartiles of full / stock, peaks."""

    stock: float
    full: float
    quartiles: tuple
    stock_peak: str
    full_peak: str


def measure(args, mode):
    """The table's row of a mode."""
    torch.set_num_threads(args.threads)
    found = compare(args, mode)
    with FlopCounterMode(display=False) as counter:
        Step(args, mode.removesuffix("-compiled"), parts())(*batch_of(args))
    low, middle, high = found.quartiles
    return (
        f"| {args.channels} | {args.utterances} x {args.views} | {mode} | "
        f"{found.stock:.3g} s | {found.full:.3g} s | {middle:.3f} "
        f"({low:.3f} to {high:.3f}) | {counter.get_total_flops() / 1e12:.3g} | "
        f"{found.stock_peak} | {found.full_peak} |"
    )


def batch_of(args):
    """Waveforms, and labels on the host, two utterances a speaker."""
    n = args.utterances
    speakers = torch.randint(args.speakers, (n // 2,)).repeat_interleave(2)
    labels = speakers.repeat(args.views)
    waveforms = torch.randn(len(labels), int(args.seconds * SAMPLE_RATE))
    return waveforms.to(args.device), labels


def parts():
    """What the full objective adds."""
    return ClassAwareAttention(10.0), SupConMarginLoss(), MinNormBalancer("l2")


def compare(args, mode):
    """Stock and full steps in turn."""
    batch = batch_of(args)
    stock, peak = warmed_up(args, mode, None, batch)
    full, full_peak = warmed_up(args, mode, parts(), batch)
    times = []
    for i in range(args.pairs):
        # Whoever goes second finds another cache: take turns.
        if i % 2:
            second, first = seconds(full, *batch), seconds(stock, *batch)
        else:
            first, second = seconds(stock, *batch), seconds(full, *batch)
        times.append((first, second))
    ratios = sorted(second / first for first, second in times)
    return Comparison(
        *(statistics.median(t) for t in zip(*times, strict=True)),
        (
            ratios[len(ratios) // 4],
            statistics.median(ratios),
            ratios[-1 - len(ratios) // 4],
        ),
        peak,
        full_peak,
    )


def warmed_up(args, mode, parts, batch):
    """A step that has compiled and has its state, and its peak memory."""
    before = torch.cuda.memory_allocated() if args.device != "cpu" else 0
    step = Step(args, mode, parts)
    step(*batch)
    if args.device == "cpu":
        return step, "-"
    torch.cuda.reset_peak_memory_stats()
    step(*batch)
    peak = torch.cuda.max_memory_allocated() - before
    return step, f"{peak / 2**30:.1f} GiB"


if __name__ == "__main__":
    main()
