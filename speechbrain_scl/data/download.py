"""Lists and archives by URL: checked, and complete or not there at all."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import urllib.parse
import urllib.request
import zipfile

from tqdm import tqdm

from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_folder

_TIMEOUT = 30  # seconds without an answer
# Audio shrinks to a half, silence to a hundredth; a bomb to a thousandth and
# less.
_MOST_EXPANSION = 200


def fetch_file(source, folder):
    """The path of a local file, or of a URL that is downloaded once: below the
    hash of the URL, as two lists of one name must not pass for each other."""
    if not str(source).startswith(("http://", "https://")):
        if not os.path.isfile(source):
            raise UserError(f"{source}: there is no such file")
        return str(source)
    name = os.path.basename(urllib.parse.urlparse(source).path).strip(".")
    name = name or "download"
    folder = os.path.join(
        folder, hashlib.sha256(source.encode()).hexdigest()[:8]
    )
    if not os.path.isfile(os.path.join(folder, name)):
        with _arriving(source, folder) as aside:
            with open(os.path.join(aside, name), "wb") as file:
                _download(source, file)
    return os.path.join(folder, name)


def fetch_archive(url, folder):
    """Downloads a zip archive and unpacks it into a new folder, which exists
    only when all of the archive is in it."""
    if os.path.lexists(folder):
        raise UserError(
            f"{folder}: not a folder to unpack {url} into: something has the "
            "name; move it away"
        )
    with (
        _arriving(url, folder) as aside,
        tempfile.TemporaryFile(dir=os.path.dirname(aside)) as packed,
    ):
        _download(url, packed)
        with zipfile.ZipFile(packed) as archive:
            _refuse_bombs(archive, aside)
            archive.extractall(aside)


@contextlib.contextmanager
def _arriving(url, folder):
    """Where to put what comes, until the folder has its name."""
    try:
        with atomic_folder(folder) as aside:
            yield aside
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{url}: the download to {folder} failed ({error}); fetch it by "
            "hand and name the local path instead"
        ) from error


def _download(url, file):
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        if answer.headers.get_content_type() == "text/html":
            raise OSError("the server sent a web page")
        name = os.path.basename(url.split("?")[0])
        bar = {"desc": f"Downloading {name}", "dynamic_ncols": True}
        with tqdm.wrapattr(answer, "read", total=size or None, **bar) as read:
            shutil.copyfileobj(read, file)
    received = file.tell()
    if received == 0 or (size and received != size):
        raise OSError(f"{received} of {size or 'unknown'} bytes arrived")


def _refuse_bombs(archive, folder):
    """By what an archive says of itself; zipfile holds it to that, and to its
    folder."""
    packed = sum(member.compress_size for member in archive.infolist())
    size = sum(member.file_size for member in archive.infolist())
    room = shutil.disk_usage(folder).free
    if size > _MOST_EXPANSION * max(packed, 2**20):
        raise OSError(
            f"{packed:,} bytes would unpack to {size:,}, which no archive of "
            "recordings does"
        )
    if size > room:
        raise OSError(f"it unpacks to {size:,} bytes, and {room:,} are free")
