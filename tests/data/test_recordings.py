"""Recordings of any rate, number of channels and format."""

import contextlib
import io
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
import torch
from commands import by_ffmpeg
from hypothesis import given, settings
from scipy.signal import resample_poly

from speechbrain_scl.data import recordings
from speechbrain_scl.data.audio import AudioFile, check_audio
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError


def tone(rate, seconds=1.0):
    """500 Hz."""
    times = np.arange(int(rate * seconds)) / rate
    return 0.3 * np.sin(2 * np.pi * 500 * times)


RATES = {"a.wav": 11025, "a.flac": 8000, "a.ogg": 44100, "a.mp3": 48000}
RATES["-a b.m4a"] = 44100


@pytest.mark.parametrize("name, rate", RATES.items())
def test_any_rate_and_format_becomes_the_tone(tmp_path, name, rate):
    path = tmp_path / name
    stereo = np.stack([1.5 * tone(rate), 0.5 * tone(rate)], 1)
    write = by_ffmpeg if name.endswith("m4a") else soundfile.write
    write(path, stereo, rate)
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        found = read_recording(source, 16000)
        assert found.change == f"{rate} Hz to 16000 Hz, 2 channels to 1"
        assert found.duration == pytest.approx(1, abs=0.2)  # mp3 pads
        assert found.waveform.dtype == np.float32
        wanted, spectrum = (
            abs(np.fft.rfft(x[2000:14000]))
            for x in (tone(16000), found.waveform)
        )  # phases apart, as codecs may shift
        assert spectrum.max() == pytest.approx(wanted.max(), rel=0.05)
        assert spectrum.argmax() == wanted.argmax()


@pytest.mark.parametrize("rate", [8000, 44100, 16050])
def test_blocks_are_resampled_as_the_whole(tmp_path, monkeypatch, rate):
    """Which a long recording of another rate would be in memory."""
    monkeypatch.setattr(recordings, "_BLOCK", 10000)
    path = tmp_path / "a.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 223456).astype("f4")
    soundfile.write(path, np.stack([noise, noise], 1), rate, "FLOAT")
    common = math.gcd(rate, 16000)
    whole = resample_poly(noise, 16000 // common, rate // common)
    for source in (path, (noise, rate)):
        found = read_recording(source).waveform
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-7)


def test_arrays_and_tensors_of_any_shape_and_type(tmp_path):
    wanted = tone(16000).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, wanted, 16000, "FLOAT")
    found = read_recording(path)  # what fits is left alone
    assert found.change == "" and np.array_equal(found.waveform, wanted)
    pair = np.stack([wanted, wanted])
    for samples in (
        wanted,
        wanted.astype(np.float64),
        pair,
        pair.T,
        torch.from_numpy(wanted),
        torch.from_numpy(pair).requires_grad_(),
        (wanted * 2**15).round().astype(np.int16),
        (wanted.astype(np.float64) * 2**31).astype(np.int32),
    ):
        found = read_recording((samples, 16000))
        np.testing.assert_allclose(found.waveform, wanted, atol=2e-5)
    eight_bits = (wanted * 127 + 128).astype(np.uint8)
    found = read_recording((eight_bits, 16000))
    np.testing.assert_allclose(found.waveform, wanted, atol=0.02)


@pytest.mark.parametrize(
    "source, said",
    [
        ((np.zeros((2, 2, 2)), 16000), "its shape is"),
        ((np.zeros(9, dtype=bool), 16000), "samples of bool"),
        ((np.zeros(9), 0), "its rate is 0"),
        ((np.zeros(9), 2**31 - 1), "its rate is 2147483647 Hz"),
        ((np.zeros(9), "16k"), "its rate is '16k'"),
        ((np.zeros(0), 16000), "no samples"),
        ((np.array([np.nan, 1]), 16000), "NaN"),
        (np.zeros(9), "a recording is a path"),
        (("a.wav", "b.wav"), "several recordings come as a list"),
        (io.BytesIO(), "it is empty"),
        (io.StringIO("text"), "open it for binary"),
        (io.TextIOWrapper(io.BytesIO(b"\xff"), "ascii"), "open it for binary"),
        ("gone.wav", "gone.wav: there is no such recording"),
        (".", "a folder, not a recording"),
    ],
)
def test_what_is_no_recording(source, said):
    with pytest.raises(UserError, match=said):
        read_recording(source)


def test_what_only_ffmpeg_could_read(tmp_path, monkeypatch):
    path = tmp_path / "a.m3u8"
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    path.write_text(f"{text}http://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    # A playlist reads no network.
    with pytest.raises(UserError, match="neither soundfile nor ffmpeg"):
        read_recording(path)
    monkeypatch.setattr(recordings, "ffmpeg_program", lambda: None)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg"):
        read_recording(path)


CUT = "WAV WAVEX RF64 W64 AIFF AU CAF NIST FLAC SVX".split()
CUT = [(kind, "PCM_16") for kind in CUT] + [("CAF", "ALAC_16"), ("MP3", None)]
CUT += [("OGG", "VORBIS"), ("OGG", "OPUS")]


@pytest.mark.parametrize("kind, subtype", CUT)
def test_what_was_cut_is_told(tmp_path, kind, subtype):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    soundfile.write(whole, noise, 16000, subtype=subtype, format=kind)
    content = whole.getvalue()
    assert read_recording(io.BytesIO(content)).missing == ""
    path = tmp_path / "a.wav"  # whatever it holds
    path.write_bytes(content)
    assert isinstance(check_audio(str(path)), AudioFile) or kind == "OGG"
    for kept in (0.5, 0.97):
        half = content[: int(kept * len(content))]
        path.write_bytes(half)
        for source in (path, io.BytesIO(half)):
            assert read_recording(source).missing != ""
        for check in ("headers", "full"):
            found = check_audio(str(path), check=check)
            assert found.reason in ("truncated", "unreadable")


def test_a_file_of_which_no_cut_can_be_told_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    for kind, subtype in {
        "VOC": "PCM_16",
        "MAT5": "FLOAT",
        "AU": "G721_32",
    }.items():
        soundfile.write(path, tone(16000), 16000, subtype, format=kind)
        with pytest.raises(
            UserError, match=f"a.wav: nobody .*{kind} .* is who"
        ):
            read_recording(path)
        assert check_audio(str(path)).reason == "unreadable"


@pytest.mark.parametrize("ending", "m4a webm amr aac wma mp3".split())
def test_what_was_cut_is_told_by_frames(tmp_path, ending):
    """Those of ffmpeg, and those of an MP3 that does not say its length."""
    path = tmp_path / f"a.{ending}"
    options = "-movflags faststart"
    if ending == "mp3":
        options = "-write_xing 0 -metadata title=a -write_id3v1 1"
    # AMR is not always built in.
    by_ffmpeg(
        path, tone(8000, 3), 8000, *options.split(), check=ending != "amr"
    )
    if not path.exists():
        pytest.skip("this ffmpeg does not write it")
    assert read_recording(path).missing == ""
    content = path.read_bytes()
    for kept in (0.4, 0.5, 0.83) if ending == "mp3" else [0.5]:
        path.write_bytes(content[: int(kept * len(content))])
        assert read_recording(path).missing != ""


@pytest.mark.parametrize(
    "name, changes",
    [
        ("a.wav", {4: b"\0" * 4, 40: b"\0" * 4}),
        ("a.wav", {4: (36).to_bytes(4, "little"), 40: b"\0" * 4}),
        ("a.wav", {40: b"\0" * 4}),
        # 36 bits of FLAC's STREAMINFO are the number of samples; the four
        # before them are bits of a sample.
        ("a.flac", {21: b"\xf0" + b"\0" * 4}),
    ],
)
def test_a_length_that_was_never_filled_in(tmp_path, name, changes):
    path = tmp_path / name
    soundfile.write(path, tone(16000), 16000)
    content = bytearray(path.read_bytes())
    for place, changed in changes.items():
        content[place : place + len(changed)] = changed
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        found = read_recording(source)
        assert found.duration == 1 and found.missing == ""
    assert check_audio(str(path)).reason == "length"
    if name == "a.wav":
        path.write_bytes(content[:44])
        with pytest.raises(UserError, match="no samples"):
            read_recording(path)
        assert check_audio(str(path)).reason == "empty"


@settings(max_examples=25)
@given(
    st.sampled_from([kind for kind in CUT if kind[0] != "MP3"]),
    st.lists(st.tuples(st.integers(0, 2**12), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_damage_is_judged_and_told(tmp_path, kind, changes, kept):
    """No traceback, whatever the bytes; MP3's decoder fills the screen."""
    file = io.BytesIO()
    soundfile.write(file, tone(16000), 16000, kind[1], format=kind[0])
    content = bytearray(file.getvalue())
    for place, byte in changes:
        content[place % len(content)] = byte
    path = tmp_path / "a.wav"
    path.write_bytes(content[: int(kept * len(content)) + 1])
    assert check_audio(str(path), check="full").path == str(path)
    with contextlib.suppress(UserError):
        assert np.isfinite(read_recording(path).waveform).all()
