"""What is embedded: the speech, at a level that the encoder can use."""

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices.speech import find_speech


@pytest.fixture(scope="module")
def encoder(trained, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("encoder"))
    return load_encoder(str(trained / "inference"), folder)


@pytest.fixture(scope="module")
def verifier(encoder):
    return SpeakerVerifier(encoder)


@pytest.fixture(scope="module")
def speech(spoken):
    return soundfile.read(spoken[0], dtype="float32")


@pytest.mark.parametrize(
    "level, before, after", [(0, 0, 30), (0.001, 20, 0), (0.001, 5, 5)]
)
def test_silence_and_noise_around_speech(
    encoder, verifier, speech, level, before, after
):
    samples, rate = speech
    rng = np.random.default_rng(0)
    around = [
        (level * rng.normal(size=seconds * rate)).astype("float32")
        for seconds in (before, after)
    ]
    longer = np.concatenate([around[0], samples, around[1]])
    alone, heard = (verifier.listen((x, rate)) for x in (samples, longer))
    assert 0.5 < heard.speech < len(samples) / rate
    assert heard.duration == len(longer) / rate
    assert "the pauses are left out" in heard.warnings[-1]
    # What an encoder makes of the whole of it is another voice.
    with torch.inference_mode():
        whole = encoder(torch.from_numpy(longer)[None])[0].numpy()
    whole = alone.embedding @ whole / np.linalg.norm(whole)
    assert verifier.verify(alone, heard).cosine > whole + 0.2


@pytest.mark.parametrize(
    "quieter",
    [
        lambda samples: samples * 1e-3,
        lambda samples: samples * 1e-6,
        lambda samples: samples * 2**15,  # integers, as floats
        lambda samples: np.round(samples * 2**15).astype(np.int32),
    ],
)
def test_the_level_does_not_matter(verifier, speech, quieter):
    samples, rate = speech
    heard = verifier.listen((quieter(samples), rate))
    assert verifier.verify((samples, rate), heard).cosine > 0.999


def test_fewer_steps_than_speech_takes_are_told(verifier, speech):
    samples, rate = speech
    steps = np.round(samples / np.abs(samples).max() * 8).astype(np.int16)
    (said,) = verifier.listen((steps, rate)).warnings
    assert "very quiet: its peak is 2.4e-04 of full scale" in said


def test_a_narrow_band_is_told(verifier, speech):
    samples, _ = speech
    telephone = resample_poly(samples, 1, 2)
    for sound, narrow in (
        ((telephone, 8000), True),
        ((resample_poly(telephone, 2, 1), 16000), True),
        ((samples, 16000), False),
    ):
        said = verifier.listen(sound).warnings
        assert any("nothing above 4 kHz" in x for x in said) == narrow


def toy(embed):
    """An encoder that makes of each waveform what ``embed`` does."""

    def encoder(waveforms):
        return torch.stack([torch.tensor(embed(w)) for w in waveforms])

    encoder.sample_rate, encoder.key = 16000, "toy"
    return SpeakerVerifier(encoder, threshold=0.5)


@pytest.fixture(scope="module")
def long(corpus):
    """Two minutes of speech."""
    paths = sorted((corpus / "wav").rglob("*.wav"))
    sound = np.concatenate([soundfile.read(path)[0] for path in paths])
    return sound[: 16000 * 130]


def test_several_speakers_in_one_recording(long, spoken):
    by_level = toy(lambda w: [1.0, 0.0] if w.abs().max() > 0.3 else [0.0, 1.0])
    one = long[: 16000 * 40]
    two = one.copy()
    two[len(two) // 2 :] *= 0.4
    for sound, several in ((one, False), (two, True)):
        found = by_level.verify((sound, 16000), spoken[0])
        assert any("two speakers" in x for x in found.warnings) == several


def test_long_recordings_are_heard_in_windows(long):
    """The embedding is the mean of theirs, by duration."""
    lengths = []

    def embed(waveform):
        lengths.append(len(waveform))
        return [1.0, 0.0] if len(lengths) == 1 else [0.0, 1.0]

    heard = toy(embed).listen((long, 16000))
    assert max(lengths) <= 60 * 16000 and max(lengths) - lengths[2] <= 1
    np.testing.assert_allclose(heard.embedding, [1, 2] / np.sqrt(5), rtol=1e-4)


HOUR = """
import resource, sys
import torch
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices import speech

def encoder(waveforms):
    return waveforms.reshape(len(waveforms), 2, -1)[..., :80_000].std(2)

encoder.sample_rate, encoder.key = 16000, "toy"
# What the detector takes does not grow with the recording.
speech._detect = lambda block: [{"start": 0, "end": len(block) - 32000}]
verifier = SpeakerVerifier(encoder, threshold=0.5)

def peak(path):
    heard = verifier.listen(path)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

short, long = map(peak, sys.argv[1:])
print((long - short) / (4 * 3600 * 16000))
"""


def test_an_hour_is_in_memory_once(run_script, tmp_path):
    paths = [str(tmp_path / f"{seconds}.wav") for seconds in (60, 3600)]
    minute = np.random.default_rng(0).integers(-999, 999, 60 * 16000, np.int16)
    for path, times in zip(paths, (1, 60)):
        soundfile.write(path, np.tile(minute, times), 16000)
    (tmp_path / "hour.py").write_text(HOUR)
    done = run_script(tmp_path / "hour.py", *paths)
    assert float(done.stdout) < 1.4, done.stderr


def test_speech_is_told_from_noise_tones_and_silence(spoken):
    def share(waveform, rate):
        found = find_speech(waveform.astype(np.float32), rate)
        return sum(end - start for start, end in found) * rate / len(waveform)

    before = torch.get_num_threads()
    for path in spoken:
        waveform, _ = soundfile.read(path)
        for sound in (waveform, 0.01 * waveform):
            assert 0.5 < share(sound, 16000) <= 1
        assert 0.5 < share(waveform[::2], 8000) <= 1
    times = np.arange(32000) / 16000
    noise = np.random.default_rng(0).normal(size=32000)
    for waveform in (0 * times, noise, np.sin(2 * np.pi * 440 * times)):
        assert share(waveform, 16000) == 0
    assert torch.get_num_threads() == before
