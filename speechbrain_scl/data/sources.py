"""Who speaks where: a folder, a CSV file or a Kaldi folder of recordings."""

import math
import os
from pathlib import Path
from typing import NamedTuple

from speechbrain_scl.data.audio import (
    READABLE,
    TO_CONVERT,
    Excluded,
    find_audio,
)
from speechbrain_scl.data.tables import beside, read_keyed, read_table
from speechbrain_scl.errors import UserError

# Formats that soundfile reads too
_ENDINGS = READABLE + TO_CONVERT
_ENDINGS += (".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".sph")
WHOLE = (0.0, math.inf)


class Spoken(NamedTuple):
    """An utterance as a source describes it."""

    name: str  # as a trial list of the user's may call it
    path: str
    speaker: str
    session: str
    utterance: str
    span: tuple = WHOLE  # start and end within the recording, seconds


def read_source(source, encoding=None):
    """Who speaks where: a list of Spoken, and Excluded ones that lack a speaker
    or a recording.

    ``source`` is a folder with a folder per speaker (of ``a.m4a`` beside
    ``a.wav`` only the wav is taken), a CSV file with the columns path and
    speaker, or a Kaldi folder with wav.scp, utt2spk and perhaps segments. Paths
    count from the current folder or from the list's.
    """
    if os.path.isfile(source):
        spoken, left_out = _read_csv(source, encoding), []
    elif not os.path.isdir(source):
        raise UserError(f"{source}: there is no such folder or CSV file")
    elif os.path.isfile(os.path.join(source, "wav.scp")):
        spoken, left_out = _read_kaldi(source, encoding)
    else:
        spoken, left_out = _read_folder(source)
    found = {}
    for one in spoken:
        stat = os.stat(one.path)
        first = found.setdefault((stat.st_dev, stat.st_ino, one.span), one)
        if first.speaker != one.speaker:
            raise UserError(
                f"{first.path} and {one.path} are one recording, of "
                f"{first.speaker} and of {one.speaker}: remove a link"
            )
        if first is not one:
            left_out.append(Excluded(one.path, "twice", f"it is {first.path}"))
    return list(found.values()), left_out


def _read_folder(source):
    paths = find_audio(source, _ENDINGS)
    if not paths:
        raise UserError(f"{source}: no audio below it")
    stem_of = {path: os.path.splitext(path)[0] for path in paths}
    ready = {stem for p, stem in stem_of.items() if _is(READABLE, p)}
    spoken, left_out = [], []
    for path, stem in stem_of.items():
        speaker, *place = parts = Path(path).relative_to(source).parts
        if not place:
            why = "it lies beside the speakers' folders"
            left_out.append(Excluded(path, "place", why))
        elif not os.path.exists(path):
            left_out.append(Excluded(path, "unreadable", "a link to nothing"))
        elif stem not in ready or not _is(TO_CONVERT, path):
            session = "-".join(place[:-1]) or "0"
            name, stem = "/".join(parts), Path(path).stem
            spoken.append(Spoken(name, path, speaker, session, stem))
        # Else it was converted before.
    return spoken, left_out


def _is(endings, path):
    return path.lower().endswith(endings)


def _read_csv(source, encoding):
    def exist(rows):
        return all(os.path.exists(beside(source, path)) for path, _ in rows)

    rows = read_table(source, ["path", "speaker"], encoding, exist)
    return [
        Spoken(path, place, speaker, session, Path(place).stem)
        for (_, (path, speaker)), (place, session) in zip(
            rows, _located(source, rows)
        )
    ]


def _read_kaldi(source, encoding):
    names = "wav.scp", "segments", "utt2spk"
    scp, listed, utt2spk = (os.path.join(source, name) for name in names)
    recordings = read_keyed(scp, encoding)
    cut = os.path.isfile(listed)
    parts = {name: (name, WHOLE) for name in recordings}
    if cut:
        parts = _read_segments(listed, recordings, encoding)
    speaker_of = {u: s for u, (_, s) in read_keyed(utt2spk, encoding).items()}
    left_out = [
        Excluded(u, "no recording", "in utt2spk alone")
        for u in speaker_of
        if u not in parts
    ]
    rows = {}
    for u, (recording, _) in parts.items():
        number, path = recordings[recording]
        if u in speaker_of:
            rows[recording] = number, (path, speaker_of[u])
        else:
            left_out.append(Excluded(u, "no speaker", "not in utt2spk"))
    places = dict(zip(rows, _located(scp, [*rows.values()])))
    spoken = []
    for u, (recording, span) in parts.items():
        if u in speaker_of:
            place, session = places[recording]
            session = recording if cut else session
            spoken.append(Spoken(u, place, speaker_of[u], session, u, span))
    return spoken, left_out


def _read_segments(path, recordings, encoding):
    """Utterance -> (recording, (start, end))."""
    found = {}
    for utterance, (number, value) in read_keyed(path, encoding).items():
        fault = ""
        try:
            recording, *span = value.split()
            start, end = map(float, span)
            end = math.inf if end == -1 else end  # to the end of the recording
            if not 0 <= start < end:
                fault = f"no time from {start} s to {end} s"
            elif recording not in recordings:
                fault = f"{recording} is not in wav.scp"
        except ValueError:
            fault = "`utterance recording start end`, in seconds, is wanted, "
            fault += f"not '{utterance} {value}'"
        if fault:
            raise UserError(f"{path}, line {number}: {fault}")
        found[utterance] = recording, (start, end)
    return found


def _located(source, rows):
    """Absolute path and session of (line, (path, speaker)) rows, each of an
    existing file. Sessions are what tells the folders of a list apart, less
    the speakers' own."""
    if not rows:
        raise UserError(f"{source}: it lists nothing")
    found = {}
    for number, (path, speaker) in rows:
        place = os.path.abspath(beside(source, path))
        fault = ""
        if not path or not speaker:
            fault = "a path and a speaker are needed"
        elif not os.path.isfile(place):
            fault = f"there is no file {path}, seen from here or from the "
            fault += "list's folder"
        elif place in found:
            fault = f"{path} is listed before"
        if fault:
            raise UserError(f"{source}, line {number}: {fault}")
        found[place] = speaker
    common = os.path.commonpath(map(os.path.dirname, found))
    return [
        (place, "-".join(p for p in folders if p != speaker) or "0")
        for place, speaker in found.items()
        for folders in [Path(place).relative_to(common).parts[:-1]]
    ]
