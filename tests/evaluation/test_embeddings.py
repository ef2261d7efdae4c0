"""Embeddings: independent of the batch, and never of another model."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.embeddings import extract_embeddings
from speechbrain_scl.evaluation.packed import AnyLength


@pytest.fixture
def files(tmp_path):
    """Five utterances, two of them equally long."""
    rng = np.random.default_rng(0)
    paths = {}
    for i, n in enumerate([8000, 9000, 8000, 12345, 4000]):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=n), 16000, "FLOAT")
        paths[f"u{i}"] = str(path)
    return paths


class Encoder:
    """Moments of the waveform; counts the utterances it is given."""

    calls = 0

    def __call__(self, wavs):
        Encoder.calls += len(wavs)
        return AnyLength(self.moments, {})(wavs)

    @staticmethod
    def moments(wavs):
        return torch.stack([wavs.std(1), wavs.abs().mean(1), wavs[:, 0]], 1)


def test_the_cache_knows_the_model_the_crops_and_the_audio(files, tmp_path):
    cache = tmp_path / "cache"

    def embedded(model, crops=None):
        before = Encoder.calls
        found = extract_embeddings(
            Encoder(), files, model, str(cache), crops=crops
        )
        calls = Encoder.calls - before
        fresh = extract_embeddings(Encoder(), files, model, crops=crops)
        for name in files:
            np.testing.assert_array_equal(found[name], fresh[name])
        return calls

    assert [embedded(model) for model in ("m1", "m1", "m2")] == [5, 0, 5]
    soundfile.write(files["u3"], 0.2 * np.ones(4000), 16000)
    assert embedded("m2") == 1
    crops = [(11, 0.5), (1, 10.5), (11, 0.5)]
    assert [embedded("m2", x) for x in crops] == [5 * 12, 5 * 2, 0]
    for path in cache.iterdir():
        path.write_bytes(b"broken")
    assert embedded("m2") == 5


def test_what_was_done_before_a_failure_is_kept(files, tmp_path):
    cache = str(tmp_path / "cache")

    def failing(wavs):
        if any(len(wav) > 10000 for wav in wavs):
            raise RuntimeError("out of memory")
        return Encoder()(wavs)

    with pytest.raises(RuntimeError):
        extract_embeddings(failing, files, "m", cache, pack_seconds=0.6)
    before = Encoder.calls
    extract_embeddings(Encoder(), files, "m", cache)
    assert Encoder.calls == before + 1


def test_audio_that_cannot_be_scored_is_named(files, tmp_path):
    """What is wrong in a header before, the rest instead of being embedded."""
    path = str(tmp_path / "click.wav")
    soundfile.write(path, 0.1 * np.ones(900), 16000)
    # Together they are long enough.
    found = extract_embeddings(Encoder(), {"twice": (path, path)}, "m")
    assert np.isfinite(found["twice"]).all()
    with pytest.raises(UserError, match="4.wav: the model's embedding is not"):
        extract_embeddings(lambda w: torch.ones(len(w), 2) / 0, files, "m")
    before = Encoder.calls
    with pytest.raises(UserError, match=r"1 utterance.*click.wav: 0.056 s"):
        extract_embeddings(Encoder(), {**files, "click": path}, "m")
    for samples, rate, said in (
        (np.zeros(8000), 16000, r"1 file\(s\).*\(silent\)"),
        (np.ones(8000), 8000, r"1 file\(s\).*\(sample rate\)"),
    ):
        soundfile.write(files["u2"], samples, rate)
        with pytest.raises(UserError, match=said):
            extract_embeddings(Encoder(), files, "m")
    assert Encoder.calls == before


def test_joined_files_are_one_utterance(files, tmp_path):
    parts = files["u1"], files["u4"], files["u1"]
    audio = np.concatenate(
        [soundfile.read(p, dtype="float32")[0] for p in parts]
    )
    joined = str(tmp_path / "joined.wav")
    soundfile.write(joined, audio, 16000, "FLOAT")
    found = extract_embeddings(Encoder(), {"a": parts, "b": joined}, "m")
    np.testing.assert_allclose(found["a"], found["b"], atol=1e-6)


def test_crops_score_as_the_double_loop(files):
    # 4000 samples are shorter than a crop and repeated.
    seconds, rate = 0.4, 16000
    found = extract_embeddings(
        Encoder(), files, "m", pack_seconds=4, crops=(5, seconds)
    )

    def unit(wav):
        vector = Encoder()([torch.from_numpy(wav)])[0].numpy()
        return vector / np.linalg.norm(vector)

    sides = []
    for name in ("u3", "u4"):
        wav, _ = soundfile.read(files[name], dtype="float32")
        n = int(seconds * rate)
        filled = np.tile(wav, 2) if len(wav) < n else wav
        starts = [int(i * (len(filled) - n) / 4) for i in range(5)]
        sides.append((unit(wav), [unit(filled[s : s + n]) for s in starts]))
    (full_a, crops_a), (full_b, crops_b) = sides
    wanted = (
        full_a @ full_b + np.mean([a @ b for a in crops_a for b in crops_b])
    ) / 2
    assert found["u3"] @ found["u4"] == pytest.approx(wanted, abs=1e-6)


def test_a_file_is_read_once(files, monkeypatch):
    """Its digest, its judgement and its samples are of one reading."""
    opened = []
    read = Path.read_bytes

    def counted(path):
        opened.append(str(path))
        return read(path)

    for path in files.values():  # as corpora have them: no whole look for NaN
        soundfile.write(path, soundfile.read(path)[0], 16000, "PCM_16")
    monkeypatch.setattr(Path, "read_bytes", counted)
    extract_embeddings(Encoder(), files, "m")
    assert sorted(opened) == sorted(files.values())
