"""One whole training step: the full objective against AAM-softmax alone.

    python benchmarks/step.py results/benchmarks [--modes fp32 bf16 bf16-compiled]

Both train the same ECAPA-TDNN on the same two views of the same batch, from
the waveforms to the optimiser's step. ``stock`` is SpeechBrain's AAM-softmax;
``full`` adds the class-aware attention, the margin-contrastive loss and the
balancing at the embedding. The steps are timed in turn, and the ratio is the
median over pairs of neighbouring steps. Modes: fp32, bf16 (autocast), and
either with ``-compiled`` (torch.compile of the encoder). The operations are
counted in the matrix products and convolutions of one full step; peak memory
is CUDA's. Leaves step.md.
"""

import time
from typing import NamedTuple

import measure
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective

N_MELS, EMBEDDING_DIM, SAMPLE_RATE = 80, 192, 16000
MODES = ["fp32", "bf16", "fp32-compiled", "bf16-compiled"]


def main():
    """Measures, and leaves the table."""
    parser = measure.parser(__doc__)
    add = parser.add_argument
    add("--channels", type=int, default=512, help="of ECAPA")
    add("--speakers", type=int, default=1211)
    add("--utterances", type=int, default=16)
    add("--views", type=int, default=2)
    add("--seconds", type=float, default=2.0)
    add("--device", default="cpu", help="or cuda")
    add("--pairs", type=int, default=15, help="of steps")
    add("--modes", nargs="+", default=["fp32"], choices=MODES, metavar="MODE")
    args = parser.parse_args()
    head = ["C", "utterances x views", "mode", "stock", "full"]
    head += ["full / stock (quartiles)", "TFLOP", "peak, stock", "peak, full"]
    # A process for each: what one leaves does not count for the next.
    rows = [measure.alone(row, args, mode) for mode in args.modes]
    measure.leave(args.output / "step.md", measure.table(head, rows))


def row(args, mode):
    """Of a mode."""
    found = compare(args, mode)
    with FlopCounterMode(display=False) as counter:
        make_step(args, mode.removesuffix("-compiled"), full=True)(
            *batch_of(args)
        )
    return [
        str(args.channels),
        f"{args.utterances} x {args.views}",
        mode,
        f"{found.stock:.3g} s",
        f"{found.full:.3g} s",
        found.ratio,
        f"{counter.get_total_flops() / 1e12:.3g}",
        found.stock_peak,
        found.full_peak,
    ]


class Comparison(NamedTuple):
    """Median seconds of a step, median (and quartiles) of full / stock, peaks
    of memory."""

    stock: float
    full: float
    ratio: str
    stock_peak: str
    full_peak: str


def compare(args, mode):
    """Stock and full steps in turn."""
    batch = batch_of(args)
    stock, peak = warmed_up(args, mode, batch, full=False)
    full, full_peak = warmed_up(args, mode, batch, full=True)

    def seconds(step):
        start = time.perf_counter()
        step(*batch)
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    times = []
    for i in range(args.pairs):
        # Whoever goes second finds another cache: take turns.
        order = [stock, full][:: (-1) ** i]
        times.append([seconds(step) for step in order][:: (-1) ** i])
    times = np.array(times)
    low, middle, high = np.quantile(
        times[:, 1] / times[:, 0], [1 / 4, 1 / 2, 3 / 4]
    )
    ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
    return Comparison(*np.median(times, 0), ratio, peak, full_peak)


def batch_of(args):
    """Waveforms, and labels on the host, two utterances a speaker."""
    n = args.utterances
    speakers = torch.randint(args.speakers, (n // 2,)).repeat_interleave(2)
    labels = speakers.repeat(args.views)
    waveforms = torch.randn(len(labels), int(args.seconds * SAMPLE_RATE))
    return waveforms.to(args.device), labels


def make_step(args, mode, full):
    """A training step on waveforms and labels."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    features = Fbank(n_mels=N_MELS).to(device)
    normalise = InputNormalization(norm_type="sentence", std_norm=False)
    encoder = ECAPA_TDNN(
        N_MELS,
        channels=[args.channels] * 4 + [3 * args.channels],
        kernel_sizes=[5, 3, 3, 3, 1],
        dilations=[1, 2, 3, 4, 1],
        attention_channels=128,
        lin_neurons=EMBEDDING_DIM,
    ).to(device)
    compiled = mode.endswith("-compiled")
    embed = torch.compile(encoder) if compiled else encoder
    classifier = Classifier(
        EMBEDDING_DIM, device=args.device, out_neurons=args.speakers
    )
    objective = Objective(
        LogSoftmaxWrapper(AdditiveAngularMargin(margin=0.2, scale=30)),
        SupConMarginLoss() if full else None,
        ClassAwareAttention(10.0) if full else None,
        MinNormBalancer("l2") if full else None,
    )
    optimizer = torch.optim.Adam(
        [*encoder.parameters(), *classifier.parameters()]
    )

    def step(waveforms, labels):
        half = mode.startswith("bf16")
        with torch.autocast(device.type, torch.bfloat16, half):
            lengths = torch.ones(len(waveforms), device=device)
            embeddings = embed(normalise(features(waveforms), lengths))
            loss = objective(embeddings, labels, classifier)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def warmed_up(args, mode, batch, full):
    """A step that has compiled and has its state, and its peak memory."""
    before = torch.cuda.memory_allocated() if args.device != "cpu" else 0
    step = make_step(args, mode, full)
    step(*batch)
    if args.device == "cpu":
        return step, "-"
    torch.cuda.reset_peak_memory_stats()
    step(*batch)
    peak = torch.cuda.max_memory_allocated() - before
    return step, f"{peak / 2**30:.1f} GiB"


if __name__ == "__main__":
    main()
