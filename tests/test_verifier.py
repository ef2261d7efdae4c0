"""The class against SpeechBrain's own scores, and what it decides."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from commands import ROOT
from scipy.signal import resample_poly

from speechbrain.inference import SpeakerRecognition
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture(scope="module")
def verifier(untrained):
    return SpeakerVerifier.load(untrained)


@pytest.fixture
def deciding(untrained):
    """With a threshold that everything exceeds."""
    return SpeakerVerifier.load(untrained, threshold=-1)


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    return rng.normal(size=16000).astype(np.float32), 16000


def test_scores_are_speechbrains(untrained, verifier, spoken, tmp_path):
    recognition = SpeakerRecognition.from_hparams(
        untrained, savedir=str(tmp_path / "model")
    )
    wavs = [
        torch.from_numpy(soundfile.read(p, dtype="float32")[0])[None]
        for p in spoken[:2]
    ]
    wanted, _ = recognition.verify_batch(*wavs)
    found = verifier.verify(*spoken[:2])
    assert found.cosine == pytest.approx(wanted.item(), abs=1e-5)
    assert found.same_speaker is found.threshold is None
    assert "no decision without" in str(found)
    vectors = verifier.embed(spoken)
    assert vectors.shape == (3, 12) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors[0] @ vectors[1] == pytest.approx(found.cosine, abs=1e-6)
    # One recording, in each form
    samples, rate = soundfile.read(spoken[0], dtype="float32")
    with open(spoken[0], "rb") as file:
        forms = [
            spoken[0],
            file,
            (samples, rate),
            (torch.tensor(samples), rate),
        ]
        for form in forms:
            np.testing.assert_array_equal(verifier.embed(form), vectors[:1])


def test_a_threshold_decides(untrained, spoken):
    cosine = SpeakerVerifier.load(untrained).verify(*spoken[:2]).cosine
    step = (1 - cosine) / 2
    for threshold in (cosine - step, cosine + step):
        found = SpeakerVerifier.load(untrained, threshold=threshold).verify(
            *spoken[:2]
        )
        assert found.same_speaker is (threshold < cosine)
        assert found.threshold == threshold


def test_a_calibration_decides_at_the_prior(untrained, spoken, tmp_path):
    path = str(tmp_path / "calibration.json")
    key = folder_digest(untrained)
    Calibration(10.0, 2.0, 0.5, 9, key).save(path)

    def verify(**options):
        verifier = SpeakerVerifier.load(untrained, calibration=path, **options)
        return verifier.verify(*spoken[:2])

    found = verify()
    assert found.log_likelihood_ratio == pytest.approx(10 * found.cosine + 2)
    assert found.threshold == pytest.approx(-0.2)
    assert found.same_speaker is (found.log_likelihood_ratio >= 0)
    assert found.warnings == ()
    found = verify(p_target=1e-9)
    assert not found.same_speaker
    assert "out of reach" in found.warnings[0]
    found = verify(threshold=0.99)
    assert found.threshold == 0.99 and found.log_likelihood_ratio is not None
    for p_target in (0, 1, 2, "0.5"):
        with pytest.raises(UserError, match="between 0 and 1"):
            verify(p_target=p_target)
    with pytest.raises(UserError, match="no threshold"):
        verify(p_target=0.1, threshold=0.0)
    for threshold in (4.6, "0.5", float("nan")):
        with pytest.raises(UserError, match="a cosine, between"):
            verify(threshold=threshold)
    Calibration(10.0, 2.0, 0.5, 9, "another").save(path)
    with pytest.raises(UserError, match="another model's"):
        verify()
    with pytest.raises(UserError, match="give a calibration.json"):
        SpeakerVerifier.load(untrained, p_target=0.1)


def test_no_speech_no_decision(deciding, spoken, noise):
    found = deciding.verify(spoken[0], noise)
    assert found.same_speaker is None
    assert found.warnings == ("the array: no speech in its 1.0 s",)
    assert "no decision" in str(found)
    with pytest.raises(UserError, match="it is silent"):
        deciding.listen((np.zeros(16000), 16000))


def test_little_speech_is_said(verifier, spoken):
    samples, rate = soundfile.read(spoken[0], dtype="float32")
    short = verifier.listen((samples[: int(0.8 * rate)], rate))
    assert 0 < short.speech < 1 and short.duration == 0.8
    assert "only 0." in short.warnings[0]
    with pytest.raises(UserError, match="0.050 s; no voice"):
        verifier.listen((samples[: rate // 20], rate))


def test_a_recording_that_is_cut_off_is_said(verifier, spoken, tmp_path):
    """As an upload that broke off; libsndfile reads what is there."""
    with open(spoken[0], "rb") as file:
        content = file.read()
    path = tmp_path / "a.wav"
    path.write_bytes(content[:-4000])
    for recording in (path, io.BytesIO(content[:-4000])):
        (said,) = verifier.listen(recording).warnings
        assert "cut off: 4000 of " in said
    assert verifier.listen(spoken[0]).warnings == ()


def test_voices(deciding, spoken, noise, tmp_path, untrained):
    deciding.enrol("model:a b", spoken[:2])
    deciding.enrol("bob", spoken[2])
    assert deciding.voices() == ["model:a b", "bob"]
    vectors = deciding.embed(spoken)
    mean = vectors[:2].sum(0) / np.linalg.norm(vectors[:2].sum(0))
    found = deciding.identify(spoken[2])
    assert found.speaker == "bob" and list(found.candidates)[0] == "bob"
    assert found.candidates["bob"].cosine == pytest.approx(1)
    assert found.candidates["model:a b"].cosine == pytest.approx(
        mean @ vectors[2], abs=1e-6
    )
    assert len(deciding.identify(spoken[2], top=1).candidates) == 1
    assert deciding.identify(noise).speaker is None  # no speech

    with pytest.raises(UserError, match="bob: enrolled already"):
        deciding.enrol("bob", spoken[0])
    deciding.enrol("bob", spoken[0], replace=True)
    assert deciding.identify(spoken[0]).speaker == "bob"
    path = str(tmp_path / "voices.npz")
    deciding.save_voices(path)
    other = SpeakerVerifier.load(untrained, threshold=1)
    other.load_voices(path)
    assert other.voices() == ["model:a b", "bob"]
    assert other.identify(spoken[2]).speaker == "unknown"
    other.remove("bob")
    assert other.voices() == ["model:a b"]
    with pytest.raises(UserError, match="bob: no such voice"):
        other.remove("bob")
    with pytest.raises(UserError, match="top=0"):
        other.identify(spoken[0], top=0)


def test_stores_of_others(verifier, tmp_path):
    path = tmp_path / "voices.npz"
    with pytest.raises(UserError, match="no such store"):
        verifier.load_voices(str(path))
    path.write_bytes(b"broken")
    with pytest.raises(UserError, match="not a store of voices"):
        verifier.load_voices(str(path))
    parts = {"embeddings": np.eye(1, 12), "recordings": np.ones(1, int)}
    parts["lengths"] = np.ones(1)
    np.savez(path, model="another", names=np.array(["ann"]), **parts)
    with pytest.raises(UserError, match="with another model"):
        verifier.load_voices(str(path))


def test_models_that_are_none(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path / "inference")
    with pytest.raises(UserError, match=f"the model is in .*{os.sep}inference"):
        SpeakerVerifier.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no hyperparams.yaml"):
        SpeakerVerifier.load(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="ecapa-voxceleb"):
        SpeakerVerifier.load("ecapa-vox")
    with pytest.raises(UserError, match="device=tpu: not on this machine"):
        SpeakerVerifier.load(untrained, device="tpu")


def test_a_short_name_is_a_repository():
    """The network is not tried in tests: the hub's client refuses."""
    with pytest.raises(UserError, match="^speechbrain/spkrec-ecapa-voxceleb: "):
        SpeakerVerifier.load("ecapa-voxceleb")


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, soundfile, torch
from speechbrain_scl.verifier import SpeakerVerifier

model, *paths = sys.argv[1:]
torch.set_num_threads(1)
verifier = SpeakerVerifier.load(model, threshold=0.5)
sounds = [soundfile.read(path, dtype="float32") for path in paths]
sounds += [(0.5 * x[: len(x) // 2], rate) for x, rate in sounds]
alone = [verifier.listen(sound) for sound in sounds]

def check(number):
    which = number % len(sounds)
    heard = verifier.listen(sounds[which])
    assert heard.speech == alone[which].speech, (number, heard.speech)
    np.testing.assert_allclose(
        heard.embedding, alone[which].embedding, atol=1e-6
    )
    verifier.enrol(f"voice {number}", heard)
    assert verifier.identify(heard).candidates
    if number % 2:
        verifier.remove(f"voice {number}")

for threads in (2, 8):
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(check, range(1000 * threads, 1000 * threads + 60)))
print(len(verifier.voices()), "voices")
"""


def test_any_number_of_threads(untrained, spoken):
    """In a process of its own, as it once ended in a segmentation fault."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, untrained, *spoken],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "60 voices\n", done.stderr


def test_without_speech_nobody_is_enrolled_or_embedded(verifier, noise):
    for use in (verifier.embed, lambda sound: verifier.enrol("ann", sound)):
        with pytest.raises(UserError, match="no speech in its 1.0 s"):
            use(noise)
        with pytest.raises(UserError, match="no speech in its 1.0 s"):
            use(verifier.listen(noise))
    assert verifier.voices() == []


def test_recordings_are_added_to_a_voice(untrained, spoken):
    together, one_by_one = (SpeakerVerifier.load(untrained) for _ in "ab")
    together.enrol("ann", spoken)
    one_by_one.enrol("ann", spoken[0])
    with pytest.raises(UserError, match=r"add=True \(--add\)"):
        one_by_one.enrol("ann", spoken[1])
    one_by_one.enrol("ann", spoken[1:], add=True)
    a, b = (
        v.identify(spoken[0]).candidates["ann"] for v in (together, one_by_one)
    )
    assert a.cosine == pytest.approx(b.cosine, abs=1e-6)
    one_by_one.enrol("bob", spoken[2], add=True)  # nobody yet
    assert one_by_one.identify(spoken[2]).speaker is None
    found = one_by_one.identify(spoken[2]).candidates
    assert found["bob"].cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "training, said",
    [
        ({"speakers": 40, "synthetic": True}, "40 synthetic voices: not for"),
        ({"speakers": 40}, "40 speakers: too few"),
        ({"speakers": 1211}, None),
    ],
)
def test_every_decision_says_what_the_model_is_not_for(
    untrained, spoken, tmp_path, training, said
):
    folder = shutil.copytree(untrained, tmp_path / "model")
    (folder / "training.json").write_text(json.dumps(training))
    verifier = SpeakerVerifier.load(folder, threshold=0)
    verifier.enrol("ann", spoken[0])
    for found in (verifier.verify(*spoken[:2]), verifier.identify(spoken[0])):
        assert [said in x for x in found.warnings] == [True] * bool(said)


def loudness(waveforms):
    """An encoder that knows speakers by their level."""
    loud = waveforms.abs().amax(1) > 0.3
    return torch.stack([loud, ~loud], 1).float()


loudness.sample_rate, loudness.key = 16000, "toy"


@pytest.fixture(scope="module")
def long(corpus):
    """Two minutes of speech."""
    paths = sorted((corpus / "wav").rglob("*.wav"))
    sound = np.concatenate([soundfile.read(path)[0] for path in paths])
    return sound[: 16000 * 130]


def test_several_speakers_in_one_recording(long, spoken):
    one = long[: 16000 * 40]
    two = one.copy()
    two[len(two) // 2 :] *= 0.4
    verifier = SpeakerVerifier(loudness, threshold=0.5)
    for sound, several in ((one, False), (two, True)):
        found = verifier.verify((sound, 16000), spoken[0])
        assert any("two speakers" in x for x in found.warnings) == several


def test_long_recordings_are_heard_in_windows(long):
    """The embedding is the mean of theirs, by duration."""
    lengths = []

    def encoder(waveforms):
        lengths.append(waveforms.shape[1])
        return torch.tensor([[1.0, 0.0], [0.0, 1.0]])[len(lengths) % 2][None]

    encoder.sample_rate, encoder.key = 16000, "toy"
    heard = SpeakerVerifier(encoder).listen((long, 16000))
    assert max(lengths) <= 60 * 16000 and lengths[2] == min(lengths[:3])
    np.testing.assert_allclose(heard.embedding, [1, 2] / np.sqrt(5), rtol=1e-4)


def test_a_narrow_band_is_told(verifier, spoken):
    samples, _ = soundfile.read(spoken[0])
    telephone = resample_poly(samples, 1, 2)
    for sound, narrow in (
        ((telephone, 8000), True),
        ((resample_poly(telephone, 2, 1), 16000), True),
        ((samples, 16000), False),
    ):
        said = verifier.listen(sound).warnings
        assert any("nothing above 4 kHz" in x for x in said) == narrow
