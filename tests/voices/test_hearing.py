"""What is embedded: the speech, at a level that the encoder can use."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.verifier import SpeakerVerifier


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


@pytest.mark.parametrize("level", [0, 0.001])
@pytest.mark.parametrize("before, after", [(0, 30), (20, 0), (5, 5)])
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
    quiet = np.abs(quieter(samples)).max() < 1
    assert any("very quiet" in said for said in heard.warnings) == quiet or (
        quieter(samples).dtype == np.int32
    )


def test_fewer_steps_than_speech_takes_are_told(verifier, speech):
    samples, rate = speech
    steps = np.round(samples / np.abs(samples).max() * 8).astype(np.int16)
    (said,) = verifier.listen((steps, rate)).warnings
    assert "very quiet: its peak is 2.4e-04 of full scale" in said
