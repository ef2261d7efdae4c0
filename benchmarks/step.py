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

from functools import partial

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
    args = measure.options(
        __doc__,
        channels=(512, "of ECAPA"),
        speakers=1211,
        utterances=16,
        views=2,
        seconds=2.0,
        device=("cpu", "or cuda"),
        pairs=(15, "of steps"),
        modes=(["fp32"], None, MODES),
    )
    head = ["C", "utterances x views", "mode", "stock", "full"]
    head += ["full / stock (quartiles)", "TFLOP", "peak, stock", "peak, full"]
    # A process for each: what one leaves does not count for the next.
    rows = [measure.alone(row, args, mode) for mode in args.modes]
    measure.leave(args.output / "step.md", head, rows)


def row(args, mode):
    """Of a mode."""
    seconds, peaks, ratio = compare(args, mode)
    step = make_step(args, mode.removesuffix("-compiled"), full=True)
    with FlopCounterMode(display=False) as counter:
        step(*batch_of(args))
    cells = [str(args.channels), f"{args.utterances} x {args.views}", mode]
    cells += [f"{s:.3g} s" for s in seconds.values()] + [ratio]
    cells.append(f"{counter.get_total_flops() / 1e12:.3g}")
    return [*cells, *peaks.values()]


def compare(args, mode):
    """Stock and full steps in turn: the median seconds and the peak of memory
    of either, and the median (and quartiles) of full / stock."""
    batch, steps, peaks = batch_of(args), {}, {"stock": "-", "full": "-"}
    for name in peaks:
        before = torch.cuda.memory_allocated() if args.device != "cpu" else 0
        step = make_step(args, mode, name == "full")
        steps[name] = partial(step, *batch)
        steps[name]()  # compiles, and makes its state
        if args.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
            steps[name]()
            peak = torch.cuda.max_memory_allocated() - before
            peaks[name] = f"{peak / 2**30:.1f} GiB"
    found = measure.in_turn(steps, args.pairs)
    seconds = {name: np.median(spent.clock) for name, spent in found.items()}
    ratios = found["full"].clock / found["stock"].clock
    low, middle, high = np.quantile(ratios, [1 / 4, 1 / 2, 3 / 4])
    return seconds, peaks, f"{middle:.3f} ({low:.3f} to {high:.3f})"


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


if __name__ == "__main__":
    main()
