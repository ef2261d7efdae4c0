"""Downloads from a server on this machine: complete, or not there at all."""

import errno
import functools
import http.server
import io
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_scl.data import download
from speechbrain_scl.data.augmentation import prepare_augmentation_folder
from speechbrain_scl.data.download import fetch_archive, fetch_file
from speechbrain_scl.errors import UserError


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, quietly; /cut.txt breaks off early."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        if not self.path.startswith("/cut.txt"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"1 a b\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder and its URL."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_a_file_is_fetched_once(server, tmp_path):
    folder, url = server
    (folder / "trials.txt").write_text("1 a b\n")
    save = str(tmp_path / "save")
    path = fetch_file(f"{url}/trials.txt?key=a=b", save)
    (folder / "trials.txt").write_text("0 a b\n")
    assert fetch_file(f"{url}/trials.txt?key=a=b", save) == path
    assert Path(path).name == "trials.txt"
    assert Path(path).read_text() == "1 a b\n"
    # Another URL that ends in the same name is another list.
    assert fetch_file(f"{url}/trials.txt", save) != path


@pytest.mark.parametrize("name", ["absent.txt", "page.html", "cut.txt", "full"])
def test_a_failure_leaves_nothing(server, tmp_path, name, monkeypatch):
    folder, url = server
    (folder / "page.html").write_text("<html>Sign in</html>")
    (folder / "full").write_text("1 a b")

    class Full(io.BytesIO):
        """The last of a file reaches a full disk as it is closed."""

        def close(self):
            super().close()
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", **options):
        return Full() if "w" in mode else open(path, mode, **options)

    if name == "full":
        monkeypatch.setattr(download, "open", opened, raising=False)
    save = tmp_path / "save"
    with pytest.raises(UserError, match=f"{name}: the download .*failed"):
        fetch_file(f"{url}/{name}", str(save))
    assert list(save.iterdir()) == []


def test_an_archive_becomes_an_augmentation_list(server, tmp_path):
    folder, url = server
    soundfile.write(tmp_path / "hum.wav", np.full(1600, 0.1), 16000)
    with zipfile.ZipFile(folder / "noise.zip", "w") as archive:
        archive.write(tmp_path / "hum.wav", "../deep/down/hum.wav")
    target = tmp_path / "data" / "noise"
    csv_file = tmp_path / "noise.csv"
    archive = str(target), str(csv_file), f"{url}/noise.zip"
    for _ in range(2):  # the second time from the folder
        prepare_augmentation_folder(*archive)
        (folder / "noise.zip").unlink(missing_ok=True)
    # No archive writes beside its folder.
    row = csv_file.read_text().splitlines()[1]
    assert row == f"0,0.1,{target}/deep/down/hum.wav,wav,"
    target = tmp_path / "hum.wav"
    with pytest.raises(UserError, match="hum.wav: .*not a folder"):
        fetch_archive(f"{url}/noise.zip", str(target))
    assert soundfile.info(target).frames == 1600


def test_unsafe_archives_are_refused(server, tmp_path, monkeypatch):
    """Those that grow beyond recordings, or the disk, or are broken."""
    folder, url = server
    parent = tmp_path / "data"

    def refused(said):
        with pytest.raises(UserError, match=f"a.zip: .*{said}"):
            fetch_archive(f"{url}/a.zip", str(parent / "noise"))
        assert list(parent.iterdir()) == []

    (folder / "a.zip").write_bytes(b"PK no zip at all")
    refused("File is not a zip file")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.raw", bytes(3 * 2**20))
    usage = shutil.disk_usage(tmp_path)._replace(free=99)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    refused("unpacks to 3,145,728 bytes, and 99 are free")
    monkeypatch.setattr(download, "_MOST_EXPANSION", 2)
    refused("would unpack to 3,145,728")
