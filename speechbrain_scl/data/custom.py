"""Anybody's recordings as a corpus that the recipes train and test on.

The corpus gets the VoxCeleb layout: links to files that are 16 kHz and mono,
converted copies of the others; and a trial list, of speakers drawn for the test
or the user's, whose speakers the recipe then keeps out of training.
"""

import math
import os
import random
from collections import defaultdict
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
from tqdm.contrib.concurrent import thread_map

from speechbrain_scl.data.audio import (
    CONVERTIBLE,
    READABLE,
    SILENCE_PEAK,
    Excluded,
    check_audio,
)
from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.data.sources import WHOLE, read_source
from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS, report_excluded
from speechbrain_scl.data.tables import read_pairs, read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import atomic_folder, write_audio, write_json

SAMPLE_RATE = 16000
TARGETS_PER_SPEAKER = 50
# Seconds by which a segment may end after its recording, as in Kaldi: its
# times are rounded.
_OVERSHOOT = 0.5


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
    known = {one.name: name for name, one in names.items()}
    listed = _read_trials(trials, names, known) if trials else None
    suspects = {}
    for number, (name,) in read_table(without, ["name"]) if without else ():
        if name not in known:
            raise UserError(
                f"{without}, line {number}: {name} is no utterance of the "
                "recordings"
            )
        path, why = names[known[name]].path, f"named in {without}"
        suspects[known[name]] = Excluded(path, "suspect", why)
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
        text = "".join(f"{' '.join(pair)}\n" for pair in pairs)
        Path(aside, "trials.txt").write_text(text, encoding="utf-8")
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
    spans = defaultdict(dict)
    for name, spoken in names.items():
        spans[spoken.path][name] = spoken.span
    done = thread_map(
        partial(place, folder=wav),
        spans,
        spans.values(),
        max_workers=os.cpu_count(),  # each holds a whole recording
        desc="Arranging audio",
        disable=None,  # where no terminal is
    )
    return {name: how for found in done for name, how in found.items()}


def place(path, spans, folder):
    """Links a recording that fits, or writes its parts as 16 kHz mono FLAC.
    ``spans`` is a part's name below the folder, without an ending, -> (start,
    end); a name -> "linked", "converted" or Excluded is returned."""
    judged = check_audio(path, SAMPLE_RATE)
    excluded = isinstance(judged, Excluded)
    # What one library cannot read another may.
    if excluded and judged.reason not in (*CONVERTIBLE, "unreadable"):
        return dict.fromkeys(spans, judged)
    read, fault, value = read_whole(path)
    if value:
        return dict.fromkeys(spans, Excluded(path, fault, value))
    # A name may promise another format than the file has.
    fits = (
        not excluded
        and path.lower().endswith(READABLE)
        and soundfile.info(path).format in ("WAV", "WAVEX", "FLAC")
    )
    return {
        name: _part(read, span, os.path.join(folder, name), fits)
        for name, span in spans.items()
    }


def read_whole(path):
    """A Recording, and a fault and what it is, where it is not all there."""
    try:
        read = read_recording(path, SAMPLE_RATE)
    except UserError as error:
        return None, "unreadable", str(error).removeprefix(f"{path}: ")
    return read, "truncated", read.missing and f"missing: {read.missing}"


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
    if fits and span == WHOLE:
        link = Path(target + Path(read.name).suffix.lower())
        link.symlink_to(Path(read.name).absolute())
        return "linked"
    write_audio(f"{target}.flac", part, read.sample_rate)
    return "converted"


def _read_trials(path, names, known):
    """(label, name, name) of a list with the user's names."""
    # A path without its ending, too
    endings = {n: os.path.splitext(s.path)[1] for n, s in names.items()}
    stems = {names[n].name.removesuffix(e): n for n, e in endings.items()}
    pairs, name_of = read_pairs(path, stems | known, labelled=True)
    return [(label, name_of[a], name_of[b]) for label, a, b in pairs]


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
