"""Embedding utterances: packs, SpeechBrain's padded batches, and one by one.

    python benchmarks/extraction.py results/benchmarks --seconds 1.5 5
    python benchmarks/extraction.py results/benchmarks --channels 1024 \\
        --utterances 16 --seconds 3 20 --batches 8

ECAPA-TDNN with random weights on noise, sorted by length as SpeechBrain's recipe
has it: processor seconds, all ways in turn; the operations of the utterances
without padding per second; and the least cosine to the utterance alone. The last
row multiplies matrices of as many rows as there are frames, with the encoder's
channels. Leaves extraction-<channels>.md.
"""

import measure
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.evaluation.packed import AnyLength

ALONE, PRODUCTS = "one by one", "matrix products"


def main():
    """Measures, and leaves the table."""
    args = measure.options(
        __doc__,
        channels=64,
        utterances=192,
        seconds=([1.5, 5.0], "shortest and longest"),
        batches=([8, 32], "utterances in each"),
        rounds=5,
    )
    rows = measure.alone(rows_of, args)
    head = ["way", "CPU s", "padded / this", "GFLOP/s", "cosine"]
    measure.leave(args.output / f"extraction-{args.channels}.md", head, rows)


def rows_of(args):
    """Of each way."""
    wavs = noise(args.utterances, *args.seconds)
    ways = ways_to_embed(args.channels, wavs, "cpu", args.batches)
    with FlopCounterMode(display=False) as counter:
        ways[ALONE]()
    flops, cosines = counter.get_total_flops(), from_alone(ways)
    frames = sum(map(len, wavs)) // 160
    c = args.channels
    one, other = torch.rand(frames, c), torch.rand(c, c)
    ways[PRODUCTS] = lambda: one @ other
    found = measure.in_turn(ways, args.rounds)
    took = {name: np.median(spent.cpu) for name, spent in found.items()}
    first = took[f"padded by {args.batches[0]}"]
    rows = []
    for name, seconds in took.items():
        work = flops if name in cosines else 2 * frames * c**2
        rows.append([name, f"{seconds:.3g}", f"{first / seconds:.2f}"])
        rows[-1] += [f"{work / seconds / 1e9:.0f}", cosines.get(name, "-")]
    return rows


def noise(n, shortest, longest):
    """Waveforms, the shorter ones first."""
    torch.manual_seed(0)
    seconds = shortest + (longest - shortest) * torch.rand(n)
    return [torch.randn(int(16000 * s)) for s in seconds.sort()[0]]


def ways_to_embed(channels, wavs, device, batches):
    """Name -> a function that gives all embeddings [utterances, dim]."""
    torch.manual_seed(0)
    modules = torch.nn.ModuleDict(
        {
            "compute_features": Fbank(n_mels=80),
            "mean_var_norm": InputNormalization(
                norm_type="sentence", std_norm=False
            ),
            "embedding_model": ECAPA_TDNN(
                80, channels=4 * [channels] + [3 * channels]
            ),
        }
    )
    features, norm, model = modules.eval().to(device).values()

    def padded(wavs):
        n = torch.tensor([len(wav) for wav in wavs], device=device)
        batch = pad_sequence(list(wavs), batch_first=True).to(device)
        x = norm(features(batch), n / n.max())
        return model(x, n / n.max()).squeeze(1)

    packs = AnyLength(padded, modules)
    packs.check(wavs)

    def by(embed, n):
        def run():
            with torch.inference_mode():
                starts = range(0, len(wavs), n)
                return torch.cat([embed(wavs[i : i + n]) for i in starts])

        return run

    ways = {ALONE: by(padded, 1)}
    ways |= {f"padded by {n}": by(padded, n) for n in batches}
    return ways | {f"packs of {n}": by(packs, n) for n in batches}


def from_alone(ways):
    """Name -> the least cosine to the utterances embedded one by one."""
    wanted = ways[ALONE]().double()
    return {
        name: f"1 - {1 - F.cosine_similarity(way().double(), wanted).min():.1e}"
        for name, way in ways.items()
    }


if __name__ == "__main__":
    main()
