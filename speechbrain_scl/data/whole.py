"""Whether a sound file is all there, by what its format promises."""

import io
import re
from pathlib import Path

from speechbrain_scl.errors import UserError

# Samples that libsndfile reports of a file that does not say how many it has
LENGTH_UNKNOWN = 2**62
# Kilobits per second of an MP3's frames: of MPEG-1, and of MPEG-2's low rates
_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBIT_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
# Formats of which a cut can be told
_TELLING = "WAV WAVEX RF64 W64 AIFF AU CAF NIST SVX FLAC OGG MP3".split()
# libsndfile's log of a header that promises another length than there is
_PROMISED = re.compile(r"(\w+) *: (\d+) \(should be (\d+)\)")


def check_kind(file):
    """Refuses an open sound file that may be a part without its header saying
    so."""
    of_blocks = file.format in ("AIFF", "AU") and file.subtype[0] == "G"
    if file.format not in _TELLING or of_blocks:
        raise UserError(
            f"nobody can tell whether a file of {file.format} ({file.subtype}) "
            "is whole: convert it to WAV or FLAC"
        )


def what_is_missing(file, n_read=None):
    """What an open file promises beyond what it holds (libsndfile reads what is
    there), or ""; ``n_read`` samples were read of all, where they were."""
    for _, promised, there in _PROMISED.findall(file.extra_info):
        promised, there = int(promised), int(there)
        # Writers to a pipe put the largest number, some leave out the padding
        # byte; zero is a length that was never filled in.
        unknown = any(abs(promised - 2**n) < 4096 for n in (31, 32, 63, 64))
        if promised - there > 1 and not unknown:
            return f"{promised - there} of {promised} bytes"
    promised, content = file.frames, b""
    if file.format in ("NIST", "OGG", "MP3"):
        inside = isinstance(file.name, io.BytesIO)
        content = (
            file.name.getvalue() if inside else Path(file.name).read_bytes()
        )
    if file.format == "NIST":
        found = re.search(rb"sample_count -i (\d+)", content[:1024])
        promised, n_read = found and int(found[1]), file.frames
    elif file.format == "OGG":
        page = content[content.rfind(b"OggS") :] + bytes(27)
        lengths = page[27 : 27 + page[26]]  # RFC 3533
        if not page[5] & 4 or 27 + len(lengths) + sum(lengths) > len(page) - 27:
            return "the end of the stream"
        promised = None
    elif file.format == "MP3":
        if _mp3_ends_within(content):
            return "the end of its last frame"
        if not re.search(rb"Xing|Info", content[: 2**14]):
            promised = None  # it does not say how long it is
    if None not in (promised, n_read) and n_read < promised < LENGTH_UNKNOWN:
        return f"{promised - n_read} of {promised} samples"
    return ""


def _mp3_ends_within(content):
    """Whether the last frame is not all there: a walk from header to header
    (ISO 11172-3, 13818-3), to what is no frame: a tag, or another layer. What
    was cut between two frames cannot be told from a shorter recording."""
    place = 0
    if content[:3] == b"ID3":  # a tag, its size in four times seven bits
        size = enumerate(reversed(content[6:10]))
        place = 10 + sum(byte << 7 * i for i, byte in size)
    while place + 4 <= len(content):
        header = int.from_bytes(content[place : place + 4], "big")
        version, rate = header >> 19 & 3, header >> 10 & 3
        low = version != 3  # MPEG-2, or (0) 2.5 with half its rates
        kbit = (_KBIT_LOW if low else _KBIT)[header >> 12 & 15]
        is_layer_3 = header >> 21 == 0x7FF and header >> 17 & 3 == 1
        if not is_layer_3 or version == 1 or rate == 3 or kbit == 0:
            return False
        rate = (44100, 48000, 32000)[rate] >> low + (version == 0)
        padding = header >> 9 & 1
        place += (72000 if low else 144000) * kbit // rate + padding
    return place > len(content) or content[place : place + 1] == b"\xff"


def unfilled(content):
    """The bytes of a WAV whose writer never filled in its length, with their
    length open; None of any other file."""
    place = 12
    while content[:4] == b"RIFF" and place + 8 <= len(content):
        start = place + 8
        length = int.from_bytes(content[place + 4 : start], "little")
        if content[place : place + 4] == b"data":
            after = content[start : start + 4]
            other = after.isalnum()  # another chunk: there are no samples
            if length or not after or other:
                return None
            return content[: place + 4] + b"\xff" * 4 + content[start:]
        place = start + length + length % 2
    return None
