"""The store of voices: read with care, changed by one process at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from speechbrain_scl.errors import UserError
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices.enrolled import load_voices
from speechbrain_scl.voices.hearing import Heard

GOOD = {"model": "toy", "names": ["ann", "bob"], "embeddings": np.eye(2)}
GOOD |= {"recordings": [1, 2], "lengths": [1.0, 0.9]}


def encoder(waveforms):
    raise AssertionError("nothing is heard here")


encoder.sample_rate, encoder.key = 16000, "toy"


@pytest.mark.parametrize(
    "part, value",
    [
        ("embeddings", 100 * np.eye(2)),
        ("embeddings", np.zeros((2, 2))),
        ("embeddings", np.full((2, 2), np.nan)),
        ("embeddings", np.ones(2)),
        ("embeddings", np.eye(3)),
        ("embeddings", np.array([["a", "b"], ["c", "d"]])),
        ("names", ["ann", "ann"]),
        ("names", ["ann", "bob\nann: same speaker"]),
        ("names", [1, 2]),
        ("names", np.array([{}, {}])),
        ("recordings", [1, 0]),
        ("recordings", [1.5, 2]),
        ("recordings", [1]),
        ("lengths", [0.0, 1.0]),
        ("lengths", [np.nan, 1.0]),
        ("lengths", [1, 1]),
        ("model", 3),
    ],
)
def test_a_store_is_checked_on_reading(tmp_path, part, value):
    path = tmp_path / "voices.npz"
    np.savez(path, **GOOD)
    assert list(load_voices(path)[1]) == ["ann", "bob"]
    np.savez(path, **{**GOOD, part: value})
    with pytest.raises(UserError, match="voices.npz: not a store of voices"):
        load_voices(path)


def test_few_bytes_do_not_fill_the_memory(tmp_path):
    path, large = tmp_path / "voices.npz", np.zeros((100_000, 192))
    np.savez_compressed(path, **{**GOOD, "embeddings": large})
    with pytest.raises(UserError, match="would unpack to 153,6"):
        load_voices(path)


@pytest.mark.parametrize(
    "name",
    ["", " ", "unknown", None, "ann\0", "a\nb", "\x1b[2Jann", "a\u202eb"],
)
def test_what_no_voice_can_be_called(name):
    heard = Heard("a.wav", np.eye(2)[0], 2.0, 2.0)
    with pytest.raises(UserError, match="not a name") as error:
        SpeakerVerifier(encoder).enrol(name, heard)
    assert str(error.value).isprintable()


def test_many_enrol_at_once_and_none_is_lost(tmp_path):
    path = tmp_path / "voices.npz"
    heard = Heard("a.wav", np.eye(2)[0], 2.0, 2.0)

    def enrol(first):
        verifier = SpeakerVerifier(encoder)
        for number in range(first, first + 5):
            with verifier.editing(path):
                verifier.enrol(f"voice {number}", heard)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enrol, range(0, 40, 5)))
    assert len(load_voices(path)[1]) == 40


def test_many_remove_at_once_and_none_comes_back(tmp_path):
    path = tmp_path / "voices.npz"
    names = [f"voice {number}" for number in range(30)]
    ones = np.ones(30)
    save = {"names": names, "recordings": ones.astype(int), "lengths": ones}
    np.savez(path, model="toy", embeddings=ones[:, None], **save)
    code = "from speechbrain_scl.command_line.main import main\nfor name in "
    code += "{}: main(['remove', {!r}, name])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(names[first::3], str(path))],
            stdout=subprocess.DEVNULL,
        )
        for first in (0, 1)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert list(load_voices(path)[1]) == names[2::3]
