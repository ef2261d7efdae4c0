"""Who says what, and where: a folder, a CSV file or a Kaldi folder."""

import dataclasses
import math
import os
import shlex
from pathlib import Path

from speechbrain_scl.data.audio import READABLE, TO_CONVERT, find_audio
from speechbrain_scl.data.tables import beside, read_lines, read_table
from speechbrain_scl.errors import UserError

# Formats that soundfile reads too
_ENDINGS = READABLE + TO_CONVERT
_ENDINGS += (".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".sph")


@dataclasses.dataclass(frozen=True)
class Spoken:
    """An utterance as a source describes it.

    Arguments
    ---------
    name : str
        What the source calls it, and perhaps a trial list of the user's: an id
        of Kaldi's, the path in a CSV file or below a folder.
    path : str
        The recording.
    speaker, session, utterance : str
        Its place: below the speaker, by session.
    start, end : float
        Seconds of the recording.
    """

    name: str
    path: str
    speaker: str
    session: str
    utterance: str
    start: float = 0.0
    end: float = math.inf


def read_source(source, encoding=None):
    """Reads a description of speakers and their recordings.

    Arguments
    ---------
    source : str
        A folder with a folder per speaker (of ``a.m4a`` beside ``a.wav`` only
        the wav is taken); a CSV file with the columns path and speaker; or a
        Kaldi folder with wav.scp, utt2spk and perhaps segments. Paths count
        from the current folder or from the list's.
    encoding : str or None
        Of the CSV file or of Kaldi's; see ``read_text``.

    Returns
    -------
    list of Spoken

    Raises
    ------
    UserError
        What is wrong, with file and line.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "ann" / "monday").mkdir(parents=True)
    >>> (folder / "ann" / "monday" / "1.wav").touch()
    >>> (found,) = read_source(str(folder))
    >>> found.name, found.speaker, found.session, found.utterance
    ('ann/monday/1.wav', 'ann', 'monday', '1')
    """
    if os.path.isfile(source):
        return _read_csv(source, encoding)
    if not os.path.isdir(source):
        raise UserError(f"{source}: there is no such folder or CSV file")
    if os.path.isfile(os.path.join(source, "wav.scp")):
        return _read_kaldi(source, encoding)
    return _read_folder(source)


def _read_folder(source):
    paths = find_audio(source, _ENDINGS)
    if not paths:
        raise UserError(f"{source}: no audio below it")
    readable = {
        os.path.splitext(path)[0]
        for path in paths
        if path.lower().endswith(READABLE)
    }
    found = []
    for path in paths:
        speaker, *place = Path(path).relative_to(source).parts
        if not place:
            raise UserError(
                f"{path}: it lies beside the speakers' folders; move it into "
                "the folder of its speaker"
            )
        stem, ending = os.path.splitext(path)
        if ending.lower() in TO_CONVERT and stem in readable:
            continue  # converted before
        *session, _ = place
        found.append(
            Spoken(
                "/".join([speaker, *place]),
                path,
                speaker,
                "-".join(session) or "0",
                os.path.basename(stem),
            )
        )
    return found


def _read_csv(source, encoding):
    def exist(rows):
        return all(os.path.exists(beside(source, path)) for path, _ in rows)

    table = read_table(source, ["path", "speaker"], encoding, exist)
    for number, row in table:
        if not all(row):
            raise UserError(
                f"{source}, line {number}: a path and a speaker are needed"
            )
    places = _located(source, [(number, path) for number, (path, _) in table])
    sessions = _sessions(places, [speaker for _, (_, speaker) in table])
    return [
        Spoken(path, place, speaker, session, Path(place).stem)
        for (_, (path, speaker)), place, session in zip(table, places, sessions)
    ]


def _read_kaldi(source, encoding):
    scp = os.path.join(source, "wav.scp")
    recordings = _read_pairs(scp, encoding)
    for name, (number, path) in recordings.items():
        if path.endswith("|"):
            raise UserError(
                f"{scp}, line {number}: commands are not run here. Run it, and "
                f"name what it writes in its place: {path[:-1].strip()} > "
                + shlex.quote(f"{name}.wav")
            )
    listed = os.path.join(source, "segments")
    cut = os.path.isfile(listed)
    if cut:
        parts = _read_segments(listed, recordings, encoding)
    else:
        listed = scp
        parts = {u: (n, u, 0.0, math.inf) for u, (n, _) in recordings.items()}
    speakers = _read_pairs(os.path.join(source, "utt2spk"), encoding)
    for utterance, (number, *_) in parts.items():
        if utterance not in speakers:
            raise UserError(
                f"{listed}, line {number}: {utterance} is not in utt2spk"
            )
    used = {recording: None for _, recording, *_ in parts.values()}
    places = dict(zip(used, _located(scp, [recordings[r] for r in used])))
    sessions = _sessions(
        [places[recording] for _, recording, *_ in parts.values()],
        [speakers[utterance][1] for utterance in parts],
    )
    return [
        Spoken(
            utterance,
            places[recording],
            speakers[utterance][1],
            recording if cut else session,
            utterance,
            *times,
        )
        for (utterance, (_, recording, *times)), session in zip(
            parts.items(), sessions
        )
    ]


def _read_pairs(path, encoding):
    """Key -> (line number, value); blanks or tabs separate them."""
    found = {}
    for number, line in read_lines(path, encoding):
        key, *value = line.split(maxsplit=1)
        if not value:
            raise UserError(f"{path}, line {number}: only one field: {line!r}")
        if key in found:
            raise UserError(f"{path}, line {number}: {key} comes twice")
        found[key] = number, value[0]
    return found


def _read_segments(path, recordings, encoding):
    """Utterance -> (line number, recording, start, end)."""
    found = {}
    for number, line in read_lines(path, encoding):
        where = f"{path}, line {number}"
        try:
            utterance, recording, *times = line.split()
            start, end = map(float, times)
        except ValueError as error:
            raise UserError(
                f"{where}: `utterance recording start end`, in seconds, is "
                f"wanted, not {line!r}"
            ) from error
        end = math.inf if end == -1 else end  # to the end of the recording
        if not 0 <= start < end:
            raise UserError(f"{where}: no time from {start} s to {end} s")
        if recording not in recordings:
            raise UserError(f"{where}: {recording} is not in wav.scp")
        if utterance in found:
            raise UserError(f"{where}: {utterance} comes twice")
        found[utterance] = number, recording, start, end
    return found


def _located(source, rows):
    """Absolute paths of (line, path) rows, each an existing file."""
    if not rows:
        raise UserError(f"{source}: it lists nothing")
    found = {}
    for number, path in rows:
        place = os.path.abspath(beside(source, path))
        if not os.path.isfile(place):
            raise UserError(
                f"{source}, line {number}: there is no file {path}, seen from "
                "here or from the list's folder"
            )
        if place in found:
            raise UserError(f"{source}, line {number}: {path} is listed before")
        found[place] = number
    return list(found)


def _sessions(places, speakers):
    """What tells apart the folders of a list, less the speakers' own."""
    common = os.path.commonpath([os.path.dirname(place) for place in places])
    folders = [Path(place).relative_to(common).parts[:-1] for place in places]
    return [
        "-".join(part for part in parts if part != speaker) or "0"
        for parts, speaker in zip(folders, speakers)
    ]
