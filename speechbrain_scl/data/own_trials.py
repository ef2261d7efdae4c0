"""The trial list of one's own corpus: drawn, or the user's."""

import os
import random
from itertools import combinations

from speechbrain_scl.data.tables import read_lines
from speechbrain_scl.errors import UserError
from speechbrain_scl.values import FEWEST_TEST_SPEAKERS

TARGETS_PER_SPEAKER = 50


def speaker_of(name):
    """The speaker of an utterance's name.

    Arguments
    ---------
    name : str
        ``speaker/session/utterance``.

    Returns
    -------
    str
    """
    return name.split("/")[0]


def read_trials(path, names):
    """Reads a trial list that has the names of the user's own.

    Arguments
    ---------
    path : str
        Lines of a label and two names, in any order.
    names : dict
        Utterance of the corpus -> Spoken.

    Returns
    -------
    list of tuple
        (label, name, name), with the corpus's names.

    Raises
    ------
    UserError
        A line without two utterances of the recordings.
    """
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


def draw_trials(names, test_speakers, seed):
    """Draws test speakers, and pairs of their utterances.

    Arguments
    ---------
    names : iterable of str
        Utterances, ``speaker/session/utterance``.
    test_speakers : int or None
        How many; None takes a fifth, of few speakers up to a third.
    seed : int
        Of the draw.

    Returns
    -------
    list of tuple
        (label, name, name).

    Raises
    ------
    UserError
        Fewer speakers than that have two utterances.

    Example
    -------
    >>> draw_trials(["a/0/1", "a/0/2", "b/0/1", "b/0/2"], 2, seed=0)[0]
    ('1', 'a/0/1', 'a/0/2')
    """
    by_speaker = {}
    for name in sorted(names):
        by_speaker.setdefault(speaker_of(name), []).append(name)
    able = [s for s, found in by_speaker.items() if len(found) > 1]
    # A fifth; of a small corpus up to a third, for an interval.
    n = len(by_speaker)
    wanted = test_speakers or max(2, n // 5, min(FEWEST_TEST_SPEAKERS, n // 3))
    if not 2 <= wanted <= len(able):
        raise UserError(
            f"a trial list of {wanted} speakers: {len(able)} of "
            f"{len(by_speaker)} have the two utterances that it takes, and 2 "
            "is the least; change --test-speakers or add recordings"
        )
    rng = random.Random(seed)
    tested = sorted(rng.sample(able, wanted))
    trials = []
    for speaker in tested:
        pairs = list(combinations(by_speaker[speaker], 2))
        pairs = rng.sample(pairs, min(len(pairs), TARGETS_PER_SPEAKER))
        others = [
            name for s in tested if s != speaker for name in by_speaker[s]
        ]
        impostors = set()
        for enrolment, test in pairs:
            trials.append(("1", enrolment, test))
            impostors.add(("0", enrolment, rng.choice(others)))
        trials.extend(sorted(impostors))
    return trials
