"""Preparation: what is left out, what is refused, what is redone."""

import os

import hypothesis.strategies as st
import numpy as np
import pytest
import soundfile
from commands import read_rows, write_noise
from hypothesis import given, settings
from voxceleb_prepare import prepare_voxceleb

from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Eight speakers in two sessions, of which one is called wav, as folders
    above are; s0 and s1 are in the trial list."""
    root = tmp_path / "my wav" / "wav" / "corpus"
    for speaker in range(8):
        for session in ("v0", "wav"):
            write_noise(root / "wav" / f"s{speaker}" / session / "00001.wav")
    trials = "1 s0/v0/00001 s0/wav/00001\n0 s0/v0/00001 s1/v0/00001\n"
    (root / "trials.txt").write_text(trials)
    return root


def prepare(root, **options):
    """Prepares beside the corpus; two speakers for validation."""
    defaults = {
        "data_folder": str(root),
        "save_folder": str(root.parent / "save"),
        "verification_files": str(root / "trials.txt"),
        "valid_speakers": 2,
        "max_excluded": 0.9,
    }
    return prepare_voxceleb(**{**defaults, **options})


def left_out(root):
    rows = read_rows(root.parent / "save" / "excluded.csv")
    return {os.path.basename(row["path"]): row for row in rows}


def rows(root):
    """Of training, and of validation."""
    save = root.parent / "save"
    return read_manifest(save / "train.csv"), read_manifest(save / "valid.csv")


def test_splits_are_disjoint_and_complete(root):
    counts = prepare(root)
    train, valid = rows(root)
    speakers = {u.spk_id for u in train}, {u.spk_id for u in valid}
    assert sorted(speakers[0] | speakers[1]) == [f"s{i}" for i in range(2, 8)]
    assert not speakers[0] & speakers[1] and len(speakers[1]) == 2
    assert counts["trial_speakers_kept_out"] == 2  # s1 is in one column only
    assert counts["train"]["utterances"] == len(train) == 8
    assert train[0].stop == 16000 and train[0].duration == 1


WRONG = {
    "short.wav": ("too short", {"seconds": 0.3}),
    "stereo.wav": ("channels", {"channels": 2}),
    "slow.wav": ("sample rate", {"rate": 8000}),
    "nothing.wav": ("empty", b""),
    "text.wav": ("unreadable", b"this is no audio"),
    "apple.m4a": ("format", b"...."),
    "nan.wav": ("not finite", np.full(24000, np.nan)),
    "silent.wav": ("silent", np.zeros(24000)),
}


def test_bad_files_are_left_out_with_a_reason(root):
    folder = root / "wav" / "s2" / "v0"
    for name, (_, content) in WRONG.items():
        if isinstance(content, dict):
            write_noise(folder / name, **content)
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            soundfile.write(folder / name, content, 16000, "FLOAT")
    write_noise(folder / "fine24.wav", subtype="PCM_24")
    write_noise(folder / "fine.flac")
    write_noise(folder / "cut.flac", seconds=3)
    cut = (folder / "cut.flac").read_bytes()[:20000]
    (folder / "cut.flac").write_bytes(cut)
    write_noise(root / "wav" / "s2" / "no_session.wav")
    with pytest.raises(UserError, match="too short.*excluded.csv"):
        prepare(root, max_excluded=0.05)
    assert "short.wav" in left_out(root)
    counts = prepare(root, check_audio="full")
    reasons = {name: row["reason"] for name, row in left_out(root).items()}
    assert reasons.pop("cut.flac") in ("truncated", "unreadable")
    wrong = {name: reason for name, (reason, _) in WRONG.items()}
    assert reasons == {**wrong, "no_session.wav": "place"}
    assert "ffmpeg" in left_out(root)["apple.m4a"]["value"]
    assert sum(counts["left_out"].values()) == 10
    names = {u.ID for split in rows(root) for u in split}
    assert {"s2--v0--fine", "s2--v0--fine24"} <= names
    write_noise(folder / "fine24.flac")
    with pytest.raises(UserError, match="the same utterance s2--v0--fine24"):
        prepare(root)


def test_it_is_redone_when_and_only_when_something_changed(root, monkeypatch):
    record = root.parent / "save" / "prepare.json"

    def is_redone(**options):
        before = record.exists() and os.stat(record).st_mtime_ns
        counts = prepare(root, **options)
        return before != os.stat(record).st_mtime_ns and counts

    assert is_redone() and not is_redone()
    with open(root / "trials.txt", "a") as file:
        file.write("0 s1/v0/00001.wav s2/v0/00001.wav\n")
    assert is_redone()["trial_speakers_kept_out"] == 3
    write_noise(root / "wav" / "s7" / "v9" / "00001.wav")
    assert is_redone() and is_redone(min_duration=0.5)
    # Another file of the same size and time, and a damaged record
    path = root / "wav" / "s7" / "v9" / "00001.wav"
    times = os.stat(path)
    write_noise(path, seconds=2, rate=8000)
    assert os.stat(path).st_size == times.st_size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert is_redone(min_duration=0.5)["left_out"] == {"sample rate": 1}
    record.write_text("{")
    assert is_redone(min_duration=0.5)
    (root.parent / "save" / "valid.csv").unlink()
    assert is_redone(min_duration=0.5) and not is_redone(min_duration=0.5)
    # One that was interrupted is not trusted.
    train = root.parent / "save" / "train.csv"
    before = train.read_text()
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr("speechbrain_scl.data.splits.write_json", None)
        prepare(root, min_duration=0.5, valid_speakers=3)
    assert train.read_text() != before
    prepare(root, min_duration=0.5)
    assert train.read_text() == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"valid_speakers": 5}, "choose 2 to 4"),
        ({"valid_speakers": ["nobody"]}, "nobody not in"),
        ({"check_audio": "fully"}, "check_audio='fully'"),
        ({"min_duration": 60.0}, "12 too short"),
        ({"data_folder": "/absent"}, "no such folder"),
        ({"data_folder": "/bin"}, "no wav/"),
        ({"verification_files": "absent.txt"}, "absent.txt: there is no such"),
    ],
)
def test_what_is_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        prepare(root, **options, max_excluded=0.5)


letters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/")


@given(
    st.text(letters, min_size=1, max_size=12).filter(
        lambda name: name.strip(". ") and not name.startswith(".")
    )
)
@settings(max_examples=5)
def test_odd_names_survive(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("odd")
    for place in ("t/1", "t/2", "u/1"):
        write_noise(root / "wav" / place / "x.wav")
    (root / "trials.txt").write_text("1 t/1/x t/2/x\n0 t/1/x u/1/x\n")
    for speaker in "abcd":
        for session in "12":
            path = root / "wav" / f"{name}{speaker}" / session / f"{name}.wav"
            write_noise(path)
    prepare(root)
    found = [u for split in rows(root) for u in split]
    assert {u.spk_id for u in found} == {name + s for s in "abcd"}
    assert all(os.path.isfile(u.wav) for u in found)
