"""Training and validation manifests of a corpus, and their record."""

import hashlib
import json
import os
import random
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_scl.corpora.manifest import write_manifest
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
    paths : dict
        Root -> audio files, of which name, size and time count.

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for path in lists:
        found.update(Path(path).read_bytes())
    for files in paths.values():
        for path in files:
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


def hold_out(utterances, valid_speakers, seed, source):
    """Chooses the speakers that validation uses and training never sees.

    Arguments
    ---------
    utterances : list of Utterance
        All that may be used.
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
    >>> from speechbrain_scl.corpora.manifest import Utterance
    >>> utterances = [
    ...     Utterance(f"{s}{i}", 1.0, f"{s}{i}.wav", 0, 16000, s)
    ...     for s in "abcd"
    ...     for i in range(3)
    ... ]
    >>> len(hold_out(utterances, 2, seed=0, source="corpus"))
    2
    """
    per_speaker = {}
    for utterance in utterances:
        n = per_speaker.get(utterance.spk_id, 0)
        per_speaker[utterance.spk_id] = n + 1
    if not isinstance(valid_speakers, int):
        valid_speakers = as_list(valid_speakers, "valid_speakers")
        unknown = sorted(set(valid_speakers) - set(per_speaker))
        if unknown:
            raise UserError(
                f"valid_speakers: {', '.join(unknown)} not in "
                f"{source}, or in a trial list"
            )
        return set(valid_speakers)
    able = sorted(s for s, n in per_speaker.items() if n > 1)
    most = min(len(able), len(per_speaker) - 2)
    if not 2 <= valid_speakers <= most:
        raise UserError(
            f"valid_speakers={valid_speakers}: {len(able)} of "
            f"{len(per_speaker)} speakers have the two utterances needed for "
            "validation, and two must remain for training: "
            + (f"choose 2 to {most}" if most >= 2 else f"{source} has too few")
        )
    most = sorted(able, key=lambda s: (-per_speaker[s], s))
    most = most[: max(len(per_speaker) // 4, valid_speakers)]
    return set(random.Random(seed).sample(most, valid_speakers))


def write_splits(save_folder, utterances, held_out, state, facts):
    """Writes train.csv, valid.csv and, last of all, prepare.json.

    Arguments
    ---------
    save_folder : str
        Where to write.
    utterances : list of Utterance
        All that may be used.
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
        An utterance that comes twice, or fewer than two training speakers.
    """
    _refuse_duplicates(utterances)
    train = [u for u in utterances if u.spk_id not in held_out]
    valid = [u for u in utterances if u.spk_id in held_out]
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
    write_manifest(os.path.join(save_folder, "valid.csv"), valid)
    write_manifest(os.path.join(save_folder, "train.csv"), train)
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


def _count(utterances):
    per_speaker = {}
    for u in utterances:
        per_speaker[u.spk_id] = per_speaker.get(u.spk_id, 0) + 1
    return {
        "speakers": len(per_speaker),
        "utterances": len(utterances),
        "hours": round(sum(u.duration for u in utterances) / 3600, 3),
        "speakers_with_one_utterance": sum(
            n == 1 for n in per_speaker.values()
        ),
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
