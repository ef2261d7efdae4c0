"""Cross-validation over speakers: each one is a test speaker once."""

import csv
import random
import sys
from itertools import combinations

from speechbrain_scl.data.audio import find_audio

# More pairs of one speaker say little more about a system.
TARGETS_PER_SPEAKER = 20
IMPOSTORS_PER_TARGET = 20


def write_folds(
    data_folder, output, n_folds, kept_out=(), metadata=None, within=()
):
    """Writes trial lists of disjoint speakers, all speakers once.

    Arguments
    ---------
    data_folder : pathlib.Path
        Holds wav/<speaker>/<session>/<utterance>.
    output : pathlib.Path
        Gets fold1/<list>.txt, fold2/<list>.txt, ...
    n_folds : int
        How many.
    kept_out : set of str
        Speakers of no fold.
    metadata : pathlib.Path or None
        A CSV file with a row per speaker or utterance: the columns speaker and
        those of ``within``.
    within : list of str
        Columns that are equal on both sides of every trial, so that neither
        channel nor gender gives an impostor away; the first one also names
        the lists.

    Returns
    -------
    dict
        Fold -> its lists.
    """
    kinds = _read_kinds(metadata, within)
    by_speaker = {}
    for path in find_audio(str(data_folder / "wav")):
        speaker, session, name = path.split("/")[-3:]
        if speaker not in kept_out:
            utterance = f"{speaker}/{session}/{name}"
            by_speaker.setdefault(speaker, []).append(utterance)
    strata = {}
    for speaker, utterances in sorted(by_speaker.items()):
        if len(utterances) > 1:
            strata.setdefault(kinds(speaker), []).append(speaker)

    rng = random.Random(0)
    lines = {}
    for kind, speakers in sorted(strata.items()):
        rng.shuffle(speakers)
        for fold in range(n_folds):
            part = speakers[fold::n_folds]
            if len(part) > 1:
                name = (f"fold{fold + 1}", kind[0] if kind else "all")
                found = lines.setdefault(name, [])
                found += _trials(part, by_speaker, rng)
    lists = {}
    for (fold, name), found in sorted(lines.items()):
        path = output / fold / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(found), encoding="utf-8")
        lists.setdefault(fold, []).append(path)
    return lists


def _read_kinds(metadata, within):
    """A function: speaker -> its values in the columns."""
    if not within:
        return lambda speaker: ()
    with open(metadata, encoding="utf-8", newline="") as file:
        kinds = {
            row["speaker"]: tuple(row[column] for column in within)
            for row in csv.DictReader(file)
        }

    def kind(speaker):
        if speaker not in kinds:
            sys.exit(f"error: {metadata} has no row of speaker {speaker}")
        return kinds[speaker]

    return kind


def _trials(speakers, by_speaker, rng):
    """Target and impostor trials among these speakers, a line each."""
    lines = []
    for speaker in speakers:
        others = [s for s in speakers if s != speaker]
        pairs = list(combinations(by_speaker[speaker], 2))
        pairs = rng.sample(pairs, min(len(pairs), TARGETS_PER_SPEAKER))
        impostors = set()
        for enrolment, test in pairs:
            lines.append(f"1 {enrolment} {test}\n")
            for _ in range(IMPOSTORS_PER_TARGET):
                impostor = rng.choice(by_speaker[rng.choice(others)])
                impostors.add((enrolment, impostor))
        lines.extend(f"0 {a} {b}\n" for a, b in sorted(impostors))
    return lines
