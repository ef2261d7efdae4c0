"""What is linked, what is converted, and what is of no use."""

import math
import os
import subprocess

import numpy as np
import pytest
import soundfile

from speechbrain_scl.data import recordings
from speechbrain_scl.data.conversion import place

WHOLE = (0.0, math.inf)


def tone(rate, channels=1, seconds=1.2):
    """251 Hz."""
    times = np.arange(int(seconds * rate))[:, None] / rate
    return np.tile(0.1 * np.sin(2 * np.pi * 251 * times), channels)


@pytest.mark.parametrize(
    "name, rate, channels, how",
    [
        ("a.wav", 16000, 1, "linked"),
        ("a.FLAC", 16000, 1, "linked"),
        ("a.wav", 8000, 1, "converted"),
        ("a.flac", 44100, 2, "converted"),
        ("a.ogg", 16000, 1, "converted"),
        ("a.mp3", 44100, 2, "converted"),
    ],
)
def test_only_what_does_not_fit_is_copied(tmp_path, name, rate, channels, how):
    soundfile.write(tmp_path / name, tone(rate, channels), rate)
    target = str(tmp_path / "to" / "a.b")
    assert place(str(tmp_path / name), {target: WHOLE}) == {target: how}
    (made,) = (tmp_path / "to").iterdir()
    assert made.is_symlink() == (how == "linked")
    assert made.stem == "a.b" and made.suffix in (".wav", ".flac")
    signal, rate = soundfile.read(made)
    assert rate == 16000 and signal.ndim == 1
    part = signal[1600:17600]
    assert np.abs(np.fft.rfft(part)).argmax() == 251
    assert np.abs(part).max() == pytest.approx(0.1, abs=5e-3)


def test_formats_of_the_verifier_are_converted_too(tmp_path):
    """Also under a name that promises another format."""
    soundfile.write(tmp_path / "a.wav", tone(44100, 2), 44100)
    subprocess.run(
        [recordings._ffmpeg(), "-v", "error", "-i", tmp_path / "a.wav"]
        + [tmp_path / "-a b.m4a"],
        check=True,
    )
    for name in ("-a b.m4a", "other.wav"):
        os.replace(tmp_path / "-a b.m4a", tmp_path / name)
        target = str(tmp_path / "to")
        assert place(str(tmp_path / name), {target: WHOLE}) == {
            target: "converted"
        }
        signal, _ = soundfile.read(target + ".flac")
        assert np.abs(np.fft.rfft(signal[1600:17600])).argmax() == 251
        os.replace(tmp_path / name, tmp_path / "-a b.m4a")


def test_segments(tmp_path):
    """Each judged by itself."""
    signal = tone(16000)[:, 0]
    signal[8000:12000] = 0
    soundfile.write(tmp_path / "a.wav", signal, 16000, "FLOAT")
    spans = [(0.0, 0.5), (0.5, 0.75), (1.0, 1.5), (1.0, 2.0), (2.0, 2.1)]
    targets = {str(tmp_path / str(i)): span for i, span in enumerate(spans)}
    found = list(place(str(tmp_path / "a.wav"), targets).values())
    assert found[0] == found[2] == "converted"
    assert found[1].reason == "silent" and found[3].reason == "segment"
    assert "from 1.0 s to 2.0 s of 1.20 s" in found[3].value
    assert found[4].reason == "segment"
    for i, (start, end) in ((0, (0, 8000)), (2, (16000, 19200))):
        made, _ = soundfile.read(tmp_path / f"{i}.flac")
        np.testing.assert_allclose(made, signal[start:end], atol=2e-5)


@pytest.mark.parametrize(
    "name, content, reason, said",
    [
        ("a.wav", b"", "empty", "zero bytes"),
        ("a.wav", b"no audio", "unreadable", "neither soundfile nor ffmpeg"),
        ("a.m4a", b"", "unreadable", "it is empty"),
        ("a.m4a", b"no audio", "unreadable", "neither soundfile nor ffmpeg"),
    ],
)
def test_what_is_of_no_use(tmp_path, name, content, reason, said):
    path = tmp_path / name
    path.write_bytes(content)
    (found,) = place(str(path), {"to": WHOLE}).values()
    assert found.reason == reason and said in found.value
    assert found.path == str(path) and str(path) not in found.value


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(
    "signal, reason",
    [([0.0] * 9000, "silent"), ([np.nan] * 9000, None), ([], "empty")],
)
def test_signals_of_no_use(tmp_path, rate, signal, reason):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.array(signal), rate, "FLOAT")
    (found,) = place(path, {str(tmp_path / "to"): WHOLE}).values()
    wanted = {reason} if reason else {"not finite", "unreadable"}
    assert found.reason in wanted | ({"unreadable"} if rate > 16000 else set())
