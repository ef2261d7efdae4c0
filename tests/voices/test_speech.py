"""Speech is told from noise, tones and silence, at any level."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.voices.speech import find_speech


def speech_seconds(waveform, rate):
    return sum(end - start for start, end in find_speech(waveform, rate))


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_speech_is_found(spoken, gain):
    for path in spoken:
        waveform, rate = soundfile.read(path, dtype="float32")
        found = speech_seconds(gain * waveform, rate)
        assert 0.5 < found / (len(waveform) / rate) <= 1


def test_at_another_rate(spoken):
    waveform, _ = soundfile.read(spoken[0], dtype="float32")
    found = speech_seconds(waveform[::2].copy(), 8000)
    assert found > 0.5 * len(waveform) / 16000


def test_what_is_no_speech():
    times = np.arange(32000) / 16000
    noise = np.random.default_rng(0).normal(size=32000)
    for waveform in (0 * times, noise, np.sin(2 * np.pi * 440 * times)):
        assert speech_seconds(waveform.astype(np.float32), 16000) == 0


def test_the_threads_stay(spoken):
    before = torch.get_num_threads()
    speech_seconds(np.ones(16000, dtype=np.float32), 16000)
    assert torch.get_num_threads() == before
