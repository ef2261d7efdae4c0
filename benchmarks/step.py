"""One whole training step: the full objective against AAM-softmax alone.

Both train the same ECAPA-TDNN on the same two views of the same batch, from
the waveforms to the optimiser's step. ``stock`` is SpeechBrain's AAM-softmax;
``full`` adds the class-aware attention, the margin-contrastive loss and the
balancing at the embedding. The steps are timed in turn, and the ratio is the
median over pairs of neighbouring steps.

    python benchmarks/step.py results/benchmarks

writes step.md there.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss

SAMPLE_RATE = 16000
N_MELS = 80
EMBEDDING_DIM = 192


class Step:
    """A training step; ``parts`` holds what goes beyond AAM-softmax."""

    def __init__(self, args, parts=None):
        torch.manual_seed(0)
        self.device = torch.device(args.device)
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
        lengths = torch.ones(len(waveforms), device=self.device)
        features = self.normalise(self.features(waveforms), lengths)
        embeddings = self.encoder(features, lengths)
        loss = self.classification(self.classifier(embeddings), labels[:, None])
        if self.parts is not None:
            attention, contrast, balancer = self.parts
            weights = attention(embeddings, labels, self.classifier.weight)
            losses = [loss, contrast(embeddings, labels, weights)]
            loss = torch.stack(losses).dot(balancer(losses, embeddings))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


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
        "--threads", type=int, default=1, help="see objective.py"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    n = args.utterances
    speakers = torch.randint(args.speakers, (n // 2,)).repeat_interleave(2)
    labels = speakers.repeat(args.views)
    waveforms = torch.randn(len(labels), int(args.seconds * SAMPLE_RATE))
    stock = Step(args)
    full = Step(
        args,
        (ClassAwareAttention(10.0), SupConMarginLoss(), MinNormBalancer("l2")),
    )
    batch = waveforms.to(args.device), labels.to(args.device)
    for step in (stock, full):
        step(*batch)
    times = []
    for i in range(args.pairs):
        # Whoever goes second finds another cache: take turns.
        if i % 2:
            second, first = seconds(full, *batch), seconds(stock, *batch)
        else:
            first, second = seconds(stock, *batch), seconds(full, *batch)
        times.append((first, second))
    ratios = sorted(second / first for first, second in times)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    stock_s, full_s = (statistics.median(t) for t in zip(*times, strict=True))
    text = (
        "| C | utterances x views | stock | full | full / stock "
        "(quartiles) |\n|--:|--:|--:|--:|--:|\n"
        f"| {args.channels} | {n} x {args.views} | {stock_s:.2f} s | "
        f"{full_s:.2f} s | {statistics.median(ratios):.3f} "
        f"({low:.3f} to {high:.3f}) |\n"
    )
    print(text)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    aside = output / ".step.md"
    aside.write_text(text)
    aside.replace(output / "step.md")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
