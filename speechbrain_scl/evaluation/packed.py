"""Utterances of any length embedded together, each as if it were alone.

A padded batch computes its padding, and SpeechBrain's embeddings depend on it.
Here the utterances of a pack lie one after another along time, [frames,
channels], with a few frames around each into which its ends are reflected, as a
convolution pads them; what is summed over time is summed by utterance.
"""

import copy
import functools

import torch
import torch.nn.functional as F

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import unwrapped

logger = get_logger(__name__)

_CHECKED = 3  # utterances that are embedded alone, too
_TOLERANCE = 1e-10  # of 1 - cosine; rounding takes some 1e-13


class AnyLength:
    """Embeds a list of waveforms [time], each as if it were alone: [len, dim].

    Together where ``PackedEncoder`` can. The first utterances are embedded
    alone, too: where that is not the same, and for other encoders, utterances
    of one length share a batch, and the log says so. ``alone`` embeds waveforms
    [batch, time] by the modules, an inference folder's in eval mode; what they
    learn after the first call is not seen.
    """

    def __init__(self, alone, modules):
        self.alone, self.modules = alone, modules
        self.packed, self.checked = None, False

    @torch.no_grad()
    def __call__(self, wavs):
        self.check(wavs)
        if self.packed and min(map(len, wavs)) > self.packed.shortest:
            return self.packed(wavs)
        found = {}
        for length in dict.fromkeys(map(len, wavs)):
            alike = [i for i, wav in enumerate(wavs) if len(wav) == length]
            vectors = self.alone(torch.stack([wavs[i] for i in alike]))
            found.update(zip(alike, vectors))
        return torch.stack([found[i] for i in range(len(wavs))])

    @torch.no_grad()
    def check(self, wavs):
        """Compares packed with alone, the first time; processes that must
        agree check the same waveforms."""
        if self.checked:
            return
        self.checked = True
        try:
            packed = PackedEncoder(
                self.modules["compute_features"],
                self.modules["mean_var_norm"],
                unwrapped(self.modules["embedding_model"]),
            )
        except (KeyError, Unknown) as reason:
            return _say(str(reason))
        some = [w for w in wavs if len(w) > packed.shortest][:_CHECKED]
        if not some:
            return _say("the first ones are too short to compare")
        # Without the TF32 and the autocast that SpeechBrain allows on a GPU
        float32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with float32, torch.autocast(packed.device.type, enabled=False):
            wanted = torch.cat([self.alone(wav[None]) for wav in some])
            found = packed(some)
        off = 1 - F.cosine_similarity(wanted.double(), found.double()).min()
        if off <= _TOLERANCE:  # so it is a number
            self.packed = packed
        else:
            _say(f"packed, a cosine to the utterance alone is 1 - {off:.1e}")


@functools.cache  # a training run asks in every epoch
def _say(reason):
    logger.info("Only utterances of one length share a batch: %s", reason)


class Unknown(Exception):
    """What cannot be packed, and why."""


class PackedEncoder:
    """Fbank, a sentence's mean and ECAPA-TDNN for a pack of utterances; Unknown
    is raised for any other modules, or in training mode."""

    def __init__(self, features, normalization, model):
        known = Fbank, InputNormalization, ECAPA_TDNN
        for module, wanted in zip((features, normalization, model), known):
            if type(module) is not wanted or module.training:
                raise Unknown(f"{type(module).__name__} in eval mode: {wanted}")
        if features.deltas or features.context or normalization.std_norm:
            raise Unknown("deltas, context or variance of the features")
        self.stft = features.compute_STFT
        kind = self.stft.center, self.stft.pad_mode, self.stft.normalized_stft
        if kind != (True, "constant", False):
            raise Unknown("an STFT that is normalised or padded otherwise")
        self.top_db = features.compute_fbanks.top_db
        self.filters = copy.copy(features.compute_fbanks)
        self.filters.top_db = torch.inf  # it is below an utterance's maximum
        self.first, self.mfa = _TDNN(model.blocks[0]), _TDNN(model.mfa)
        self.device = self.first.weight.device
        self.blocks = [_SERes2Net(block) for block in model.blocks[1:]]
        self.pooling = _Pooling(model.asp)
        self.last = torch.nn.Sequential(model.asp_bn, model.fc)
        convolutions = [self.first, self.mfa]
        convolutions += [tdnn for block in self.blocks for tdnn in block.inner]
        # Nor do frames of two utterances share samples.
        hop = self.stft.hop_length
        self.gap = max(self.stft.n_fft // hop, *(c.reach for c in convolutions))
        self.shortest = self.gap * hop  # samples that can be reflected

    @torch.inference_mode()
    def __call__(self, wavs):
        """Embeddings [utterances, dim] of a list of waveforms [time], of at
        least ``shortest`` samples each."""
        lengths = [1 + len(wav) // self.stft.hop_length for wav in wavs]
        lengths = torch.tensor(lengths, device=self.device)
        pack, without_gaps = _Pack(lengths, self.gap), _Pack(lengths, 0)
        outputs = [self.first(self._features(wavs, pack), pack)]
        for block in self.blocks:
            outputs.append(block(outputs[-1], pack))
        x = self.mfa(torch.cat(outputs[1:], 1), pack)
        x = self.pooling(x.index_select(0, pack.frames), without_gaps)
        return self.last(x[:, :, None]).squeeze(2)

    def _features(self, wavs, pack):
        """Log Mel energies less their means, [frames, Mel bands]."""
        n_fft, hop = self.stft.n_fft, self.stft.hop_length
        signal = wavs[0].new_zeros((len(pack.owner) - 1) * hop + n_fft)
        for wav, start in zip(wavs, (pack.starts * hop + n_fft // 2).tolist()):
            signal[start : start + len(wav)] = wav
        spectrum = torch.stft(
            signal.to(self.device),
            n_fft,
            hop,
            self.stft.win_length,
            self.stft.window.to(self.device),
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        x = self.filters(power.t()[None])[0]
        floor = pack.max(x.amax(1, keepdim=True)) - self.top_db
        x = torch.maximum(x, pack.spread(floor))
        return x - pack.spread(pack.mean(x))


class _Pack:
    """Where utterances of so many frames lie, with ``gap`` frames before and
    after each for its reflections, and sums over each."""

    def __init__(self, lengths, gap):
        arange = functools.partial(torch.arange, device=lengths.device)
        utterances = arange(len(lengths))
        owner = utterances.repeat_interleave(lengths)
        self.lengths = lengths[:, None]
        self.frames = arange(len(owner)) + gap * (2 * owner + 1)
        self.owner = utterances.repeat_interleave(lengths + 2 * gap)
        first = lengths.cumsum(0) - lengths
        self.starts = self.frames[first]
        start, i = self.starts[:, None], arange(1, gap + 1)
        end = start + self.lengths - 1
        self.reflected = torch.cat([start - i, end + i]).flatten()
        self.mirrored = torch.cat([start + i, end - i]).flatten()
        # Frames by eights, those by eights, ...: in one long sum of equal
        # numbers their last digits are lost.
        self.sums, rows, counts = [], self.frames, lengths
        while counts.max() > 1:
            first, eights = counts.cumsum(0) - counts, -(-counts // 8)
            owner = utterances.repeat_interleave(eights)
            i = arange(len(owner)) - (eights.cumsum(0) - eights)[owner]
            self.sums.append((rows, first[owner] + 8 * i))
            rows, counts = arange(len(owner)), eights

    def sum(self, x):
        """[frames, channels] to [utterances, channels], as mean and max."""
        for rows, first in self.sums:
            x = F.embedding_bag(rows, x, first, mode="sum")
        return x

    def mean(self, x):
        return self.sum(x) / self.lengths

    def max(self, x):
        x, owner = x[self.frames], self.owner[self.frames, None]
        least = x.new_full((len(self.lengths), x.shape[1]), -torch.inf)
        return least.scatter_reduce(0, owner.expand_as(x), x, "amax")

    def spread(self, values):
        """[utterances, channels] to [frames, channels]."""
        return values.index_select(0, self.owner)

    def reflect(self, x):
        """Fills the gaps of [frames, channels]."""
        x.index_copy_(0, self.reflected, x.index_select(0, self.mirrored))


def _convolve(x, weight, bias=None, reach=0, dilation=1, groups=1):
    """[frames, channels in] to [frames, channels out], channels last."""
    x = x.contiguous()[None, None].permute(0, 3, 1, 2)
    how = (0, reach), (1, 1), (1, dilation), groups
    if x.is_cpu and torch.backends.mkldnn.is_available():
        # F.conv2d leaves it for MKL's products: half as fast on an AMD CPU
        x = torch.mkldnn_convolution(x, weight, bias, *how)
    else:
        x = torch.convolution(x, weight, bias, *how)
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _channels_last(weight):
    """A Conv1d's weight for ``_convolve``."""
    weight = weight.detach().float()[:, :, None]
    return weight.contiguous(memory_format=torch.channels_last)


class _TDNN:
    """A TDNNBlock as a convolution and a clamp: BatchNorm makes a max(z, 0) + c
    of a ReLU's z. That is a z + c, which the convolution's weights and bias can
    give, cut off at c: from below where a is positive, else from above."""

    def __init__(self, block):
        conv, norm = block.conv.conv, block.norm.norm
        self.reach, odd = divmod(
            conv.dilation[0] * (conv.kernel_size[0] - 1), 2
        )
        self.shape = self.reach, conv.dilation[0], conv.groups
        if odd or type(block.activation) is not torch.nn.ReLU:
            raise Unknown("an even kernel, or no ReLU for an activation")
        with torch.no_grad():
            a = norm.weight / (norm.running_var.double() + norm.eps).sqrt()
            c = norm.bias - norm.running_mean * a
            self.weight = _channels_last(conv.weight * a[:, None, None])
            self.bias = (conv.bias * a + c).float()
            self.low = c.float().masked_fill(a < 0, -torch.inf)
            self.high = c.float().masked_fill(a >= 0, torch.inf)

    def __call__(self, x, pack):
        """[frames, channels in] to [frames, channels out]; fills x's gaps."""
        if self.reach:
            pack.reflect(x)
        z = _convolve(x, self.weight, self.bias, *self.shape)
        return z.clamp_(self.low, self.high)


class _SERes2Net:
    """An SERes2NetBlock."""

    def __init__(self, block):
        self.before, self.after = _TDNN(block.tdnn1), _TDNN(block.tdnn2)
        self.inner = [_TDNN(tdnn) for tdnn in block.res2net_block.blocks]
        self.shortcut, se = block.shortcut, block.se_block
        self.gate = torch.nn.Sequential(se.conv1, se.relu, se.conv2, se.sigmoid)

    def __call__(self, x, pack):
        parts = list(self.before(x, pack).chunk(len(self.inner) + 1, 1))
        for i, tdnn in enumerate(self.inner, 1):
            part = parts[i] if i == 1 else parts[i] + parts[i - 1]
            parts[i] = tdnn(part, pack)
        y = self.after(torch.cat(parts, 1), pack)
        if self.shortcut is not None:
            conv = self.shortcut.conv
            x = _convolve(x, _channels_last(conv.weight), conv.bias)
        gates = self.gate(pack.mean(y)[:, :, None]).squeeze(2)
        return torch.addcmul(x, y, pack.spread(gates))


class _Pooling:
    """AttentiveStatisticsPooling of frames without gaps, less their mean, so that
    a variance is no difference of large numbers; what is constant along time is
    multiplied once."""

    def __init__(self, pooling):
        self.tdnn, self.eps = _TDNN(pooling.tdnn), pooling.eps
        self.global_context = pooling.global_context
        n = pooling.conv.conv.out_channels
        self.varying = _channels_last(self.tdnn.weight[:, :n, :, 0])
        # A softmax along time does not see its bias.
        self.attention = _channels_last(pooling.conv.conv.weight)

    def __call__(self, x, pack):
        """[frames, channels] to [utterances, means and deviations]."""
        mean = pack.mean(x)
        x = x - pack.spread(mean)
        constant = mean
        if self.global_context:
            deviation = pack.mean(x.square()).clamp(self.eps).sqrt()
            constant = torch.cat([mean, mean, deviation], 1)
        constant = _convolve(constant, self.tdnn.weight, self.tdnn.bias)
        a = _convolve(x, self.varying).add_(pack.spread(constant))
        a = a.clamp_(self.tdnn.low, self.tdnn.high).tanh_()
        weights = _convolve(a, self.attention)
        weights = weights.sub_(pack.spread(pack.max(weights))).exp_()
        total = pack.sum(weights)
        weighted = weights.mul_(x)
        shift = pack.sum(weighted) / total
        variance = pack.sum(weighted.mul_(x)) / total - shift.square()
        return torch.cat([mean + shift, variance.clamp(self.eps).sqrt()], 1)
