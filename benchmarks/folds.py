"""Cross-validation over speakers: each one is a test speaker once."""

import csv
import random
import sys
from itertools import combinations

from speechbrain_scl.data.audio import find_audio

# More pairs of one speaker say little more about a system.
TARGETS_PER_SPEAKER = 20
IMPOSTORS_PER_TARGET = 20


def write_folds(folder, output, n_folds, kept_out=(), metadata=None, within=()):
    """Writes trial lists of disjoint speakers, but those kept out, to
    output/fold1/<list>.txt and so on: fold -> its lists.

    ``folder`` holds wav/<speaker>/<session>/<utterance>, ``metadata`` is a CSV
    file with a row per speaker or utterance: the columns speaker and those of
    ``within``. These are equal on both sides of every trial, so that neither
    channel nor gender gives an impostor away, and the first one names the lists.
    """
    kinds, of_speaker, strata, lists = {}, {}, {}, {}
    if within:
        with open(metadata, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                kinds[row["speaker"]] = tuple(row[name] for name in within)
    for path in find_audio(str(folder / "wav")):
        speaker, session, name = path.split("/")[-3:]
        utterance = f"{speaker}/{session}/{name}"
        of_speaker.setdefault(speaker, []).append(utterance)
    for speaker, utterances in sorted(of_speaker.items()):
        if speaker not in kept_out and len(utterances) > 1:
            if within and speaker not in kinds:
                sys.exit(f"error: {metadata} has no row of speaker {speaker}")
            strata.setdefault(kinds.get(speaker, ("all",)), []).append(speaker)

    rng = random.Random(0)
    for kind, speakers in sorted(strata.items()):
        rng.shuffle(speakers)
        for fold in range(n_folds):
            path = output / f"fold{fold + 1}" / f"{kind[0]}.txt"
            part = speakers[fold::n_folds]
            if len(part) > 1:
                lines = lists.setdefault(path.parent.name, {})
                lines.setdefault(path, []).extend(
                    _trials(part, of_speaker, rng)
                )
    for path, lines in (
        x for of_fold in lists.values() for x in of_fold.items()
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="utf-8")
    return {fold: sorted(lists[fold]) for fold in sorted(lists)}


def _trials(speakers, of_speaker, rng):
    """Target and impostor trials among these speakers, a line each."""
    lines = []
    for speaker in speakers:
        others = [s for s in speakers if s != speaker]
        pairs = list(combinations(of_speaker[speaker], 2))
        pairs = rng.sample(pairs, min(len(pairs), TARGETS_PER_SPEAKER))
        impostors = set()
        for enrolment, test in pairs:
            lines.append(f"1 {enrolment} {test}\n")
            for _ in range(IMPOSTORS_PER_TARGET):
                impostor = rng.choice(of_speaker[rng.choice(others)])
                impostors.add((enrolment, impostor))
        lines.extend(f"0 {a} {b}\n" for a, b in sorted(impostors))
    return lines
