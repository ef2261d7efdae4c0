"""Packed, each utterance has the embedding that it has alone."""

import logging

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.Xvector import Xvector
from speechbrain.processing.features import InputNormalization
from speechbrain_scl.evaluation import packed
from speechbrain_scl.evaluation.packed import AnyLength, PackedEncoder, Unknown

ENCODER = {
    "input_size": 12,
    "channels": [16] * 4 + [24],
    "attention_channels": 6,
    "se_channels": 5,
    "res2net_scale": 4,
    "lin_neurons": 8,
}


def modules_of(features=(), model=(), seed=0, std_norm=False):
    """As a training leaves them: BatchNorm has statistics of its own, and some
    units never answer."""
    torch.manual_seed(seed)
    norm = InputNormalization(norm_type="sentence", std_norm=std_norm)
    modules = torch.nn.ModuleDict(
        {
            "compute_features": Fbank(**{"n_mels": 12, **dict(features)}),
            "mean_var_norm": norm,
            "embedding_model": ECAPA_TDNN(**{**ENCODER, **dict(model)}),
        }
    )
    for module in modules.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)  # also negative
            torch.nn.init.normal_(module.bias)
            module.weight.data[0] = 0
        if hasattr(module, "activation"):
            module.conv.conv.bias.data[1::4] = -100
    return modules.eval()


def alone_by(modules):
    """Waveforms [batch, time] to embeddings, as SpeechBrain has them."""

    def alone(wavs):
        lengths = torch.ones(len(wavs))
        x = modules["compute_features"](wavs)
        x = modules["mean_var_norm"](x, lengths)
        return modules["embedding_model"](x, lengths).squeeze(1)

    return alone


def noises(lengths, seed=0):
    """Of some 60 dB between their ends, and half of the band silent."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        wav = torch.randn(length, generator=generator)
        spectrum = torch.fft.rfft(wav)
        spectrum[len(spectrum) // 2 :] = 0
        wav = torch.fft.irfft(spectrum, length)
        found.append(wav * torch.logspace(-4, -1, length))
    return found


def off(found, wanted):
    """How far from 1 the least cosine is."""
    return float(1 - F.cosine_similarity(found.double(), wanted.double()).min())


@torch.no_grad()
def assert_as_alone(modules, wavs):
    wanted = torch.cat([alone_by(modules)(wav[None]) for wav in wavs])
    found = PackedEncoder(*modules.values())(wavs)
    assert off(found, wanted) < 1e-10
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    ours, theirs = (F.normalize(x.double()) for x in (found, wanted))
    assert (ours @ ours.T - theirs @ theirs.T).abs().max() < 1e-6


ENCODERS = {
    "blocks": st.integers(1, 3),
    "widths": st.tuples(*3 * [st.sampled_from([8, 16])]),
    "kernel_sizes": st.lists(st.sampled_from([1, 3, 5]), min_size=5),
    "dilations": st.lists(st.integers(1, 4), min_size=5),
    "groups": st.lists(st.sampled_from([1, 4]), min_size=5),
    "res2net_scale": st.sampled_from([2, 4, 8]),
    "global_context": st.booleans(),
}


@settings(max_examples=10)
@given(
    lengths=st.lists(st.integers(2600, 9000), min_size=1, max_size=6),
    hop=st.sampled_from([10, 12.5, 20]),
    encoder=st.fixed_dictionaries(ENCODERS),
    seed=st.integers(0, 99),
)
def test_every_utterance_is_embedded_as_if_alone(lengths, hop, encoder, seed):
    blocks = encoder.pop("blocks")
    first, inner, last = encoder.pop("widths")
    for name in ("kernel_sizes", "dilations", "groups"):
        encoder[name] = encoder[name][: blocks + 2]
    encoder["channels"] = [first, *blocks * [inner], last]
    modules = modules_of({"hop_length": hop}, encoder, seed)
    assert_as_alone(modules, noises(lengths, seed))


@pytest.mark.parametrize(
    "features, length",
    [
        ({"filter_shape": "gaussian", "sample_rate": 8000}, 5000),
        ({"win_length": 20, "f_min": 100, "f_max": 4000}, 5000),
        ({"n_fft": 512, "hop_length": 40}, 5000),
        ({}, 16000 * 60),  # sums over 6,000 frames
    ],
)
def test_features_of_any_kind(features, length):
    assert_as_alone(modules_of(features), noises([3000, length, 4001]))


def xvector():
    modules = modules_of()
    modules["embedding_model"] = Xvector(
        tdnn_blocks=2,
        tdnn_channels=[16, 16],
        tdnn_kernel_sizes=[5, 3],
        tdnn_dilations=[1, 2],
        lin_neurons=8,
        in_channels=12,
    ).eval()
    return modules


def other_stft(**changes):
    modules = modules_of()
    vars(modules["compute_features"].compute_STFT).update(changes)
    return modules


@pytest.mark.parametrize(
    "make",
    [
        xvector,
        lambda: modules_of({"deltas": True}, {"input_size": 36}),
        lambda: modules_of(std_norm=True),
        lambda: modules_of(model={"activation": torch.nn.Tanh}),
        lambda: modules_of(model={"kernel_sizes": [4, 3, 3, 3, 1]}),
        lambda: other_stft(pad_mode="reflect"),
        lambda: other_stft(normalized_stft=True),
        lambda: modules_of().train(),
    ],
)
def test_what_is_not_known_is_refused(make):
    with pytest.raises(Unknown):
        PackedEncoder(*make().values())


def counted(modules):
    """How it embeds, and the shapes of what it was given."""
    by_modules, shapes = alone_by(modules), []

    def alone(wavs):
        shapes.append(tuple(wavs.shape))
        return by_modules(wavs)

    return alone, shapes


def changed_encoder():
    modules = modules_of()
    pooling = modules["embedding_model"].asp
    pooling.register_forward_hook(lambda *given: 1.001 * given[2] + 0.01)
    return modules


@pytest.mark.parametrize(
    "make, said",
    [
        (xvector, "Xvector"),
        (changed_encoder, "1 - "),
        (lambda: {}, "compute_features"),
    ],
)
def test_another_encoder_embeds_batches_of_one_length(make, said, caplog):
    packed._say.cache_clear()
    modules = make()
    alone, shapes = counted(modules or modules_of())
    encoder = AnyLength(alone, modules)
    wavs = noises([5000, 3000, 5000, 4000, 3000])
    with torch.no_grad():
        wanted = torch.cat([alone(wav[None]) for wav in wavs])
    with caplog.at_level(logging.INFO):
        found = encoder(wavs)
    assert [n for n, _ in shapes[-3:]] == [2, 2, 1]
    assert off(found, wanted) < 1e-8
    AnyLength(alone, modules)(wavs)
    (line,) = caplog.messages  # once
    assert said in line


def test_packed_after_a_look_at_the_first_utterances():
    modules = modules_of()
    alone, calls = counted(modules)
    encoder = AnyLength(alone, modules)
    wavs = noises([3000, 4000, 5000, 6000])
    found = encoder(wavs)
    assert calls == [(1, 3000), (1, 4000), (1, 5000)]
    assert torch.equal(found, encoder(wavs)) and len(calls) == 3
    with pytest.raises(RuntimeError, match="[Pp]adding"):  # the encoder's own
        encoder(noises([100, 9000]))
