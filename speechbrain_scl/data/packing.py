"""Audio packed into few large files, for network file systems.

    python -m speechbrain_scl.data.packing SHARDS save/train.csv save/valid.csv

SHARDS then holds tar files in WebDataset's layout (``00000007.flac`` and
``00000007.spk`` are one sample) and manifests of the same names that point into
them. Train with --skip_prep=True --train_annotation=SHARDS/train.csv
--valid_annotation=SHARDS/valid.csv; a crop is one read of one place of a shard.
"""

import argparse
import csv
import dataclasses
import io
import os
import re
import tarfile

from tqdm import tqdm

from speechbrain_scl.data.manifest import read_manifest, write_csv
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.files import atomic_write

_INSIDE = re.compile(r"(.+\.tar)#(\d+)\+(\d+)", re.DOTALL)


def open_audio(wav):
    """What a manifest's ``wav`` names: a file, or a place in a shard.

    Arguments
    ---------
    wav : str
        A path, or ``SHARD.tar#offset+size`` in bytes.

    Returns
    -------
    str or io.BytesIO
        What soundfile reads.

    Raises
    ------
    OSError
        The shard cannot be read, or ends before that.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.tar"
    >>> _ = path.write_bytes(b"0123456789")
    >>> open_audio(f"{path}#2+3").read()
    b'234'
    >>> open_audio("take#2.wav")
    'take#2.wav'
    """
    found = _INSIDE.fullmatch(wav)
    if not found:
        return wav
    shard, offset, size = found[1], int(found[2]), int(found[3])
    with open(shard, "rb", buffering=0) as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise OSError(f"the shard ends {size - len(content)} bytes before")
    return io.BytesIO(content)


@dataclasses.dataclass(frozen=True)
class _Sample:
    """A recording and its speaker; their names in the shard."""

    wav: str
    speaker: str
    key: str

    @property
    def audio_name(self):
        return self.key + os.path.splitext(self.wav)[1].lower()

    @property
    def members(self):
        """What the shard holds of it: names and sizes."""
        return [
            (self.audio_name, os.path.getsize(self.wav)),
            (f"{self.key}.spk", len(self.speaker.encode())),
        ]


def pack(folder, manifests, shard_bytes=2**30):
    """Packs the recordings of manifests.

    A shard gets its name when it is complete, and a shard that is there with
    the files it should have, by name and size, is not written again.

    Arguments
    ---------
    folder : str
        For the shards, and for the manifests that point into them.
    manifests : list of str
        CSV files of different names.
    shard_bytes : int
        About how large a shard is.

    Returns
    -------
    dict
        Recordings, shards, and shards that were there.

    Raises
    ------
    UserError
        A recording that cannot be read, a full disk, or manifests of one
        name.

    Example
    -------
    >>> from speechbrain_scl.data.manifest import Utterance, write_manifest
    >>> tmp = getfixture("tmp_path")
    >>> _ = (tmp / "a.wav").write_bytes(b"RIFF...")
    >>> rows = [Utterance("a", 1.0, str(tmp / "a.wav"), 0, 16000, "ann")]
    >>> write_manifest(tmp / "train.csv", rows)
    >>> pack(str(tmp / "shards"), [str(tmp / "train.csv")])
    {'recordings': 1, 'shards': 1, 'there': 0}
    >>> wav = read_manifest(tmp / "shards" / "train.csv")[0].wav
    >>> open_audio(wav).read()
    b'RIFF...'
    """
    names = [os.path.basename(path) for path in manifests]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(manifests)}: give them different names")
    for path in manifests:
        if os.path.dirname(os.path.abspath(path)) == os.path.abspath(folder):
            raise UserError(f"{folder}: {path} is there, and would be replaced")
    speaker_of = {}
    for path in manifests:
        for utterance in read_manifest(path):
            speaker_of.setdefault(utterance.wav, utterance.spk_id)
    place_of, n_shards, n_there = {}, 0, 0
    shards = list(_divide(speaker_of, shard_bytes))
    for number, samples in enumerate(
        tqdm(shards, desc="Packing", unit="shard")
    ):
        shard = os.path.abspath(os.path.join(folder, f"{number:06d}.tar"))
        places = _places(shard)
        if [(name, size) for name, _, size in places] != [
            member for sample in samples for member in sample.members
        ]:
            _write(shard, samples)
            places = _places(shard)
        else:
            n_there += 1
        n_shards += 1
        where = {
            name: f"{shard}#{start}+{size}" for name, start, size in places
        }
        for sample in samples:
            place_of[sample.wav] = where[sample.audio_name]
    for path in manifests:
        _point_into(
            os.path.join(folder, os.path.basename(path)), path, place_of
        )
    return {"recordings": len(place_of), "shards": n_shards, "there": n_there}


def _divide(speaker_of, shard_bytes):
    """Lists of samples of about equal size."""
    samples, size = [], 0
    for number, wav in enumerate(sorted(speaker_of)):
        try:
            size += os.path.getsize(wav)
        except OSError as error:
            raise UserError(f"{wav}: {error.strerror}") from error
        samples.append(_Sample(wav, speaker_of[wav], f"{number:08d}"))
        if size >= shard_bytes:
            yield samples
            samples, size = [], 0
    if samples:
        yield samples


def _write(shard, samples):
    wav = shard
    try:
        with (
            atomic_write(shard, binary=True) as file,
            tarfile.open(
                fileobj=file, mode="w", format=tarfile.GNU_FORMAT
            ) as tar,
        ):
            for sample in samples:
                wav = sample.wav
                with open(wav, "rb") as audio:
                    member = tarfile.TarInfo(sample.audio_name)
                    member.size = os.fstat(audio.fileno()).st_size
                    tar.addfile(member, audio)
                text = sample.speaker.encode()
                member = tarfile.TarInfo(f"{sample.key}.spk")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    except OSError as error:
        raise UserError(
            f"{shard}: cannot be written at {wav} ({error.strerror or error}); "
            "the shards before it are complete, and the same command goes on"
        ) from error


def _places(shard):
    """Name, offset and size of what a shard holds; nothing of no shard."""
    try:
        with tarfile.open(shard) as tar:
            return [(m.name, m.offset_data, m.size) for m in tar]
    except (OSError, tarfile.TarError):
        return []


def _point_into(path, manifest, place_of):
    """The manifest, all its columns, with other places."""
    with open(manifest, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = [{**row, "wav": place_of[row["wav"]]} for row in reader]
    columns = reader.fieldnames
    write_csv(path, columns, ([row[c] for c in columns] for row in rows))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", help="for the shards")
    parser.add_argument("manifests", nargs="+", metavar="manifest")
    parser.add_argument(
        "--shard-size", type=float, default=1.0, help="GiB (default 1)"
    )
    args = parser.parse_args()
    if not args.shard_size > 0:
        raise UserError(f"--shard-size {args.shard_size}: above 0, please")
    done = pack(args.folder, args.manifests, args.shard_size * 2**30)
    print(
        f"{args.folder}: {done['recordings']} recordings in {done['shards']} "
        f"shard(s), of which {done['there']} were there"
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
