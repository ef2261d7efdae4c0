"""Training and validation manifests of a corpus, and their record."""

import hashlib
import json
import os
import random
from array import array
from pathlib import Path

import numpy as np

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import write_json
from speechbrain_scl.values import as_list

logger = get_logger(__name__)


def digest(lists, paths):
    """Changes with the content of a list and with the files of the corpus.

    Arguments
    ---------
    lists : list of str
        Files whose content counts.
    paths : iterable of str
        Audio files, of which name, size and time count.

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for path in lists:
        found.update(Path(path).read_bytes())
    for path in paths:
        found.update(os.fsencode(path))
        if os.path.exists(path):  # not a link into nowhere
            stat = os.stat(path)
            found.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return found.hexdigest()


def counts_if_up_to_date(save_folder, state):
    """The counts of an earlier preparation of the same.

    Arguments
    ---------
    save_folder : str
        Where ``write_splits`` wrote.
    state : dict
        Options and inputs, as they are now.

    Returns
    -------
    dict or None
        None where anything has changed or is missing.
    """
    if not all(
        os.path.isfile(os.path.join(save_folder, name))
        for name in ("prepare.json", "train.csv", "valid.csv")
    ):
        return None
    text = Path(save_folder, "prepare.json").read_text(encoding="utf-8")
    done = json.loads(text)
    if {key: done.get(key) for key in state} != state:
        return None
    logger.info("The manifests in %s are up to date", save_folder)
    return done["counts"]


def per_speaker(utterances):
    """How much there is of each speaker.

    Arguments
    ---------
    utterances : iterable of Utterance
        All that may be used; read once more where two may be the same. Eight
        bytes of each are held.

    Returns
    -------
    dict
        Speaker -> (utterances, seconds).

    Raises
    ------
    UserError
        An utterance that comes twice.

    Example
    -------
    >>> from speechbrain_scl.data.manifest import Utterance
    >>> per_speaker([Utterance("a", 1.5, "a.wav", 0, 24000, "ann")])
    {'ann': (1, 1.5)}
    """
    found, hashes = {}, array("q")
    for utterance in utterances:
        hashes.append(hash(utterance.ID))
        n, seconds = found.get(utterance.spk_id, (0, 0.0))
        found[utterance.spk_id] = n + 1, seconds + utterance.duration
    hashes = np.sort(hashes)
    repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if repeated:
        _refuse_duplicates(u for u in utterances if hash(u.ID) in repeated)
    return found


def hold_out(speakers, valid_speakers, seed, source):
    """Chooses the speakers that validation uses and training never sees.

    Arguments
    ---------
    speakers : dict
        As ``per_speaker`` returns it.
    valid_speakers : int or list of str
        How many (drawn by the seed from the quarter of the speakers with the
        most utterances: more pairs, a steadier EER), or which.
    seed : int
        Of the draw.
    source : str
        Where they come from, for the error.

    Returns
    -------
    set of str

    Raises
    ------
    UserError
        Unknown speakers, or too few with two utterances.

    Example
    -------
    >>> speakers = dict.fromkeys("abcd", (3, 3.0))
    >>> len(hold_out(speakers, 2, seed=0, source="corpus"))
    2
    """
    counts = {speaker: n for speaker, (n, _) in speakers.items()}
    if not isinstance(valid_speakers, int):
        valid_speakers = as_list(valid_speakers, "valid_speakers")
        unknown = sorted(set(valid_speakers) - set(counts))
        if unknown:
            raise UserError(
                f"valid_speakers: {', '.join(unknown)} not in "
                f"{source}, or in a trial list"
            )
        return set(valid_speakers)
    able = sorted(s for s, n in counts.items() if n > 1)
    most = min(len(able), len(counts) - 2)
    if not 2 <= valid_speakers <= most:
        raise UserError(
            f"valid_speakers={valid_speakers}: {len(able)} of "
            f"{len(counts)} speakers have the two utterances needed for "
            "validation, and two must remain for training: "
            + (f"choose 2 to {most}" if most >= 2 else f"{source} has too few")
        )
    most = sorted(able, key=lambda s: (-counts[s], s))
    most = most[: max(len(counts) // 4, valid_speakers)]
    return set(random.Random(seed).sample(most, valid_speakers))


def write_splits(save_folder, utterances, speakers, held_out, state, facts):
    """Writes train.csv, valid.csv and, last of all, prepare.json.

    Arguments
    ---------
    save_folder : str
        Where to write.
    utterances : iterable of Utterance
        All that may be used.
    speakers : dict
        As ``per_speaker`` returns it.
    held_out : set of str
        The validation's speakers.
    state : dict
        Options and inputs, for ``counts_if_up_to_date``.
    facts : dict
        What else to count: ``left_out`` by reason, and numbers by name.

    Returns
    -------
    dict
        Counts of both splits, and the facts.

    Raises
    ------
    UserError
        Fewer than two training speakers.
    """
    train = [x for name, x in speakers.items() if name not in held_out]
    valid = [x for name, x in speakers.items() if name in held_out]
    counts = {"train": _count(train), "valid": _count(valid), **facts}
    if counts["train"]["speakers"] < 2:
        raise UserError(
            f"{counts['train']['speakers']} training speaker(s) remain without "
            f"the {len(held_out)} for validation and those of the trial lists; "
            "at least 2 are needed"
        )
    record = Path(save_folder, "prepare.json")
    # Interrupted from here on, the next run must not trust the old record.
    record.unlink(missing_ok=True)
    for name, chosen in (("valid.csv", True), ("train.csv", False)):
        write_manifest(
            os.path.join(save_folder, name),
            (u for u in utterances if (u.spk_id in held_out) == chosen),
        )
    write_json(record, {**state, "counts": counts})
    _log(counts, save_folder)
    return counts


def _refuse_duplicates(utterances):
    seen = {}
    for utterance in utterances:
        other = seen.setdefault(utterance.ID, utterance.wav)
        if other != utterance.wav:
            raise UserError(
                f"{other} and {utterance.wav} are the same utterance "
                f"{utterance.ID}: remove one"
            )


def _count(speakers):
    """Of (utterances, seconds) of each speaker."""
    return {
        "speakers": len(speakers),
        "utterances": sum(n for n, _ in speakers),
        "hours": round(sum(seconds for _, seconds in speakers) / 3600, 3),
        "speakers_with_one_utterance": sum(n == 1 for n, _ in speakers),
    }


def _log(counts, save_folder):
    for split in ("train", "valid"):
        logger.info(
            "%s: %d utterances of %d speakers, %.2f h",
            split,
            counts[split]["utterances"],
            counts[split]["speakers"],
            counts[split]["hours"],
        )
    for name, number in counts.items():
        if isinstance(number, int):
            logger.info("%s: %d", name.replace("_", " "), number)
    singles = counts["train"]["speakers_with_one_utterance"]
    if singles:
        logger.warning(
            "%d training speakers have one utterance: their positives come "
            "from its augmented views only",
            singles,
        )
    for reason, n in counts["left_out"].items():
        logger.warning("%d files left out: %s", n, reason)
    if counts["left_out"]:
        logger.warning("each is named in %s/excluded.csv", save_folder)
