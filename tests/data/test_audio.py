"""Finding and judging files: links, names, and promises of a header."""

import os
import subprocess

import numpy as np
import pytest
import soundfile
from commands import by_ffmpeg, write_noise

from speechbrain_scl.data.audio import check_all, check_audio, find_audio
from speechbrain_scl.data.recordings import ffmpeg_program


def test_linked_folders_are_read_under_their_own_speaker(tmp_path):
    """And links that lead to each other end."""
    root = tmp_path / "root"
    write_noise(root / "s3" / "v0" / "a.wav")
    write_noise(tmp_path / "elsewhere" / "b.wav")
    for name, there in {
        "s2/v": root / "s3/v0",
        "s9/v": tmp_path / "elsewhere",
        "s3/v0/back": root / "s2",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        os.symlink(there, root / name)
    names = "s2/v/a.wav", "s3/v0/a.wav", "s9/v/b.wav"
    assert find_audio(root) == [str(root / name) for name in names]


def test_files_come_in_one_order(tmp_path, monkeypatch):
    """However the system lists them: here from the last name to the first."""
    paths = [write_noise(tmp_path / s / "1.wav") for s in ("b", "a", "c", "10")]
    walked = sorted(os.walk(tmp_path), reverse=True)
    monkeypatch.setattr(os, "walk", lambda *_, **how: walked)
    assert find_audio(tmp_path) == sorted(paths)


def test_headers_find_links_into_nowhere_and_nan(tmp_path):
    """And a name that no manifest can hold."""
    os.symlink(tmp_path / "absent.wav", tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", np.full(2400, np.nan), 16000, "FLOAT")
    path = write_noise(tmp_path / "c.wav")
    os.rename(path, os.path.join(os.fsencode(tmp_path), b"vo\xe9.wav"))
    found = list(map(check_audio, find_audio(tmp_path)))
    assert [f.reason for f in found] == ["unreadable", "not finite", "name"]
    assert "vo" in found[2].path and found[2].path.isascii()


def test_a_piped_wav_has_no_length_in_its_header(tmp_path):
    path = write_noise(tmp_path / "a.wav")
    with open(path, "r+b") as file:
        file.seek(4)
        file.write(b"\xff\xff\xff\xff")
    assert check_audio(path).samples == 16000


def test_many_files_keep_their_order(tmp_path):
    paths = [write_noise(tmp_path / f"{i}.wav", i % 3) for i in range(20)]
    accepted, excluded = check_all(paths)
    assert [e.path for e in excluded] == paths[::3]
    assert accepted == [check_audio(p) for p in paths if p not in paths[::3]]


def test_what_a_system_hides_is_no_corpus(tmp_path, caplog):
    path = write_noise(tmp_path / "ann" / "1.wav")
    for name in ("ann/._1.wav", ".Trash/2.wav", "ann/@eaDir/3.wav"):
        write_noise(tmp_path / name)
    assert find_audio(tmp_path) == [path]
    assert "3 hidden files or folders are not read" in caplog.text


@pytest.mark.parametrize(
    "name, rate, reason",
    [("it's a tone.m4a", 44100, "format"), ("a b.flac", 16000, "channels")],
)
def test_the_remedy_can_be_pasted(tmp_path, name, rate, reason):
    """And leaves a file that is taken, and the old one out of the way."""
    (tmp_path / "bin").mkdir()
    os.symlink(ffmpeg_program(), tmp_path / "bin" / "ffmpeg")
    signal = np.tile(0.1 * np.sin(np.arange(rate) / 9)[:, None], 2)
    path = tmp_path / "in" / "-my own" / name
    path.parent.mkdir(parents=True)
    write = by_ffmpeg if reason == "format" else soundfile.write
    write(path, signal, rate)
    excluded = check_audio(*find_audio(tmp_path / "in"))
    assert excluded.reason == reason
    command = excluded.value.partition("convert it: ")[2]
    places = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": places}
    subprocess.check_output(["bash", "-c", command], env=environment, input=b"")
    (found,) = find_audio(tmp_path / "in")
    assert check_audio(found).samples == pytest.approx(16000, abs=1600)
    assert os.path.isfile(f"{path}.original")
