"""Anybody's recordings as a corpus that the recipes train and test on.

A folder, a CSV file or a Kaldi folder says who speaks where. The corpus gets
the VoxCeleb layout: links to files that are 16 kHz and mono, converted copies
of the others; and a trial list, of speakers drawn for the test or the user's,
whose speakers the recipe then keeps out of training.
"""

import math
import os
import random
import shlex
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_scl.data.audio import (
    CONVERTIBLE,
    READABLE,
    SILENCE_PEAK,
    TO_CONVERT,
    Excluded,
    check_audio,
    find_audio,
)
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS, report_excluded
from speechbrain_scl.data.tables import beside, read_lines, read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_folder, write_audio, write_json

SAMPLE_RATE = 16000
TARGETS_PER_SPEAKER = 50
# Formats that soundfile reads too
_ENDINGS = READABLE + TO_CONVERT
_ENDINGS += (".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".sph")
_WHOLE = (0.0, math.inf)
# Seconds by which a segment may end after its recording, as in Kaldi: its
# times are rounded.
_OVERSHOOT = 0.5


class Spoken(NamedTuple):
    """An utterance as a source describes it."""

    name: str  # as a trial list of the user's may call it
    path: str
    speaker: str
    session: str
    utterance: str
    span: tuple = _WHOLE  # start and end within the recording, seconds


def import_corpus(
    recordings,
    folder,
    test_speakers=None,
    max_excluded=0.05,
    seed=1986,
    trials=None,
    encoding=None,
    without=None,
):
    """Arranges recordings in the VoxCeleb layout, with a trial list.

    ``recordings`` is what ``read_source`` takes, and ``folder`` must not exist.
    ``trials`` has the names of the source (Kaldi's ids, paths of a CSV file or
    below the folder); without it, pairs of a fifth of the speakers are drawn,
    of few up to a third. ``without`` is a table whose column ``name`` names
    utterances to leave out. Returns counts, also in the corpus's import.json.
    """
    if os.path.lexists(folder):
        raise UserError(f"{folder}: it exists; choose another, or delete it")
    spoken, left_out = read_source(recordings, encoding)
    names = _names(spoken)
    listed = _read_trials(trials, names) if trials else None
    suspects = _read_suspects(without, names) if without else {}
    # Beside the corpus, so that it stays where the corpus is refused
    excluded_list = f"{os.path.normpath(folder)}.excluded.csv"
    with atomic_folder(folder) as aside:
        good = {n: s for n, s in names.items() if n not in suspects}
        placed = _place_all(good, os.path.join(aside, "wav")) | suspects
        n_files = len(placed) + len(left_out)
        left_out += [p for p in placed.values() if isinstance(p, Excluded)]
        # What the user leaves out is no fault of the recordings.
        allowed = max_excluded + len(suspects) / n_files
        reasons = report_excluded(excluded_list, left_out, n_files, allowed)
        os.replace(excluded_list, os.path.join(aside, "excluded.csv"))
        kept = {n for n, p in placed.items() if not isinstance(p, Excluded)}
        if listed is None:
            listed = _draw_trials(kept, test_speakers, seed)
        pairs = [pair for pair in listed if kept.issuperset(pair[1:])]
        Path(aside, "trials.txt").write_text(
            "".join(f"{' '.join(pair)}\n" for pair in pairs), encoding="utf-8"
        )
        tested = {_speaker(name) for pair in pairs for name in pair[1:]}
        counts = {
            "speakers": len(set(map(_speaker, kept))),
            "utterances": len(kept),
            "converted": list(placed.values()).count("converted"),
            "test_speakers": len(tested),
            "trials": len(pairs),
            "trials_left_out": len(listed) - len(pairs),
            "left_out": reasons,
        }
        write_json(os.path.join(aside, "import.json"), counts)
    return counts


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
    ready = {Path(p).with_suffix("") for p in paths if _is_readable(p)}
    spoken, left_out = [], []
    for path in paths:
        speaker, *place = parts = Path(path).relative_to(source).parts
        if not place:
            why = "it lies beside the speakers' folders"
            left_out.append(Excluded(path, "place", why))
        elif not os.path.exists(path):
            left_out.append(Excluded(path, "unreadable", "a link to nothing"))
        elif (
            not path.lower().endswith(TO_CONVERT)
            or Path(path).with_suffix("") not in ready
        ):
            session = "-".join(place[:-1]) or "0"
            name, stem = "/".join(parts), Path(path).stem
            spoken.append(Spoken(name, path, speaker, session, stem))
        # Else it was converted before.
    return spoken, left_out


def _is_readable(path):
    return path.lower().endswith(READABLE)


def _read_csv(source, encoding):
    def exist(rows):
        return all(os.path.exists(beside(source, path)) for path, _ in rows)

    table = read_table(source, ["path", "speaker"], encoding, exist)
    rows = [(number, *row) for number, row in table]
    return [
        Spoken(path, place, speaker, session, Path(place).stem)
        for (_, path, speaker), (place, session) in zip(
            rows, _located(source, rows)
        )
    ]


def _read_kaldi(source, encoding):
    scp, listed, utt2spk = (
        os.path.join(source, name)
        for name in ("wav.scp", "segments", "utt2spk")
    )
    recordings = _read_pairs(scp, encoding)
    for name, (number, path) in recordings.items():
        if path.endswith("|"):
            raise UserError(
                f"{scp}, line {number}: commands are not run here. Run it, and "
                f"name what it writes in its place: {path[:-1].strip()} > "
                + shlex.quote(f"{name}.wav")
            )
    cut = os.path.isfile(listed)
    parts = {name: (name, _WHOLE) for name in recordings}
    if cut:
        parts = _read_segments(listed, recordings, encoding)
    speaker_of = {u: s for u, (_, s) in _read_pairs(utt2spk, encoding).items()}
    used = {r: speaker_of[u] for u, (r, _) in parts.items() if u in speaker_of}
    rows = [(*recordings[r], speaker) for r, speaker in used.items()]
    places = dict(zip(used, _located(scp, rows)))
    spoken, left_out = [], []
    for u in parts | speaker_of:
        if u not in parts:
            left_out.append(Excluded(u, "no recording", "in utt2spk alone"))
        elif u not in speaker_of:
            left_out.append(Excluded(u, "no speaker", "not in utt2spk"))
        else:
            recording, span = parts[u]
            place, session = places[recording]
            session = recording if cut else session
            spoken.append(Spoken(u, place, speaker_of[u], session, u, span))
    return spoken, left_out


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
    """Utterance -> (recording, (start, end))."""
    found = {}
    for utterance, (number, value) in _read_pairs(path, encoding).items():
        where = f"{path}, line {number}"
        try:
            recording, start, end = value.split()
            start, end = float(start), float(end)
        except ValueError as error:
            raise UserError(
                f"{where}: `utterance recording start end`, in seconds, is "
                f"wanted, not '{utterance} {value}'"
            ) from error
        end = math.inf if end == -1 else end  # to the end of the recording
        if not 0 <= start < end:
            raise UserError(f"{where}: no time from {start} s to {end} s")
        if recording not in recordings:
            raise UserError(f"{where}: {recording} is not in wav.scp")
        found[utterance] = recording, (start, end)
    return found


def _located(source, rows):
    """Absolute path and session of (line, path, speaker) rows, each of an
    existing file. Sessions are what tells the folders of a list apart, less
    the speakers' own."""
    if not rows:
        raise UserError(f"{source}: it lists nothing")
    found = {}
    for number, path, speaker in rows:
        where = f"{source}, line {number}"
        place = os.path.abspath(beside(source, path))
        if not path or not speaker:
            raise UserError(f"{where}: a path and a speaker are needed")
        if not os.path.isfile(place):
            raise UserError(
                f"{where}: there is no file {path}, seen from here or from "
                "the list's folder"
            )
        if place in found:
            raise UserError(f"{where}: {path} is listed before")
        found[place] = speaker
    common = os.path.commonpath(map(os.path.dirname, found))
    return [
        (place, "-".join(p for p in folders if p != speaker) or "0")
        for place, speaker in found.items()
        for folders in [Path(place).relative_to(common).parts[:-1]]
    ]


def _names(utterances):
    """speaker/session/utterance, without blanks -> Spoken."""
    names = {}
    for spoken in utterances:
        name = "/".join(
            # A trial list is separated by blanks, a path by slashes.
            "_".join(part.replace("/", "-").split())
            for part in (spoken.speaker, spoken.session, spoken.utterance)
        )
        if name in names:
            raise UserError(
                f"{spoken.path} and {names[name].path} would both be {name}: "
                "rename one"
            )
        names[name] = spoken
    return names


def _speaker(name):
    return name.split("/")[0]


def _place_all(names, wav):
    """Name -> "linked", "converted" or Excluded; each recording read once."""
    spans, placed = defaultdict(dict), {}
    for name, spoken in names.items():
        spans[spoken.path][name] = spoken.span
    progress = {"desc": "Arranging audio", "dynamic_ncols": True}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(place, spans, spans.values(), [wav] * len(spans))
        for found in tqdm(done, total=len(spans), **progress):
            placed.update(found)
    return {name: placed[name] for name in names}


def place(path, spans, folder):
    """Links a recording that fits, or writes its parts as 16 kHz mono FLAC.
    ``spans`` is a part's name below the folder, without an ending, -> (start,
    end); a name -> "linked", "converted" or Excluded is returned."""
    judged = check_audio(path, SAMPLE_RATE)
    excluded = isinstance(judged, Excluded)
    # What one library cannot read another may.
    if excluded and judged.reason not in (*CONVERTIBLE, "unreadable"):
        return dict.fromkeys(spans, judged)
    try:
        read = read_recording(path, SAMPLE_RATE)
    except UserError as error:
        said = str(error).removeprefix(f"{path}: ")
        return dict.fromkeys(spans, Excluded(path, "unreadable", said))
    if read.missing:
        cut = Excluded(path, "truncated", f"missing: {read.missing}")
        return dict.fromkeys(spans, cut)
    # A name may promise another format than the file has.
    fits = (
        not excluded
        and _is_readable(path)
        and soundfile.info(path).format in ("WAV", "WAVEX", "FLAC")
    )
    return {
        name: _part(read, span, os.path.join(folder, name), fits)
        for name, span in spans.items()
    }


def part_of(read, span):
    """The samples of a part, (start, end) in seconds, of a Recording."""
    start, end = span
    stop = min(end * read.sample_rate, len(read.waveform))
    return read.waveform[round(start * read.sample_rate) : round(stop)]


def _part(read, span, target, fits):
    start, end = span
    if end < math.inf and end > read.duration + _OVERSHOOT:
        said = f"from {start} s to {end} s of {read.duration:.2f} s"
        return Excluded(read.name, "segment", said)
    part = part_of(read, span)
    if len(part) == 0 or np.abs(part).max() < SILENCE_PEAK:
        said = "nothing above -60 dB of full scale"
        return Excluded(read.name, "silent", said)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    if fits and span == _WHOLE:
        link = Path(target + Path(read.name).suffix.lower())
        link.symlink_to(Path(read.name).absolute())
        return "linked"
    write_audio(f"{target}.flac", part, read.sample_rate)
    return "converted"


def _read_suspects(path, names):
    """The corpus's names of a table's utterances -> Excluded."""
    known = {spoken.name: name for name, spoken in names.items()}
    found = {}
    for number, (name,) in read_table(path, ["name"]):
        if name not in known:
            raise UserError(
                f"{path}, line {number}: {name} is no utterance of the "
                "recordings"
            )
        place = names[known[name]].path
        found[known[name]] = Excluded(place, "suspect", f"named in {path}")
    return found


def _read_trials(path, names):
    """(label, name, name) of a list with the user's names."""
    known = {spoken.name: name for name, spoken in names.items()}
    for name, spoken in names.items():  # a path without its ending, too
        ending = os.path.splitext(spoken.path)[1]
        known.setdefault(spoken.name.removesuffix(ending), name)
    trials = []
    for number, line in read_lines(path):
        fields = line.split("\t") if "\t" in line else line.split()
        found = [known[field] for field in fields if field in known]
        labels = [field for field in fields if field not in known]
        if len(found) != 2 or len(labels) != 1:
            raise UserError(
                f"{path}, line {number}: a label and two utterances of the "
                f"recordings are wanted; {', '.join(labels) or 'no field'} "
                "is not one of theirs"
            )
        trials.append((*labels, *found))
    return trials


def _draw_trials(names, test_speakers, seed):
    """(label, name, name): pairs of the utterances of some test speakers."""
    by_speaker = defaultdict(list)
    for name in sorted(names):
        by_speaker[_speaker(name)].append(name)
    able = [s for s, found in by_speaker.items() if len(found) > 1]
    # A fifth; of a small corpus up to a third, for an interval.
    n = len(by_speaker)
    wanted = test_speakers or max(2, n // 5, min(FEWEST_TEST_SPEAKERS, n // 3))
    if not 2 <= wanted <= len(able):
        raise UserError(
            f"a trial list of {wanted} speakers: {len(able)} of {n} have the "
            "two utterances that it takes, and 2 is the least; change "
            "--test-speakers or add recordings"
        )
    rng = random.Random(seed)
    tested = sorted(rng.sample(able, wanted))
    trials = []
    for speaker in tested:
        pairs = list(combinations(by_speaker[speaker], 2))
        pairs = rng.sample(pairs, min(len(pairs), TARGETS_PER_SPEAKER))
        others = [n for s in tested if s != speaker for n in by_speaker[s]]
        impostors = {("0", first, rng.choice(others)) for first, _ in pairs}
        trials += [("1", *pair) for pair in pairs]
        trials += sorted(impostors)
    return trials
