"""From a corpus's judged files to the manifests of training and validation."""

import hashlib
import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import write_csv, write_manifest
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import write_json
from speechbrain_scl.values import as_list

logger = get_logger(__name__)


def up_to_date(save_folder, options, lists, paths):
    """Whether an earlier preparation was of the same.

    Arguments
    ---------
    save_folder : str
        Where ``write_splits`` wrote.
    options : dict
        Those of the preparation.
    lists : list of str
        Files whose content counts.
    paths : list of str
        Audio files, of which name, size and times count.

    Returns
    -------
    state : dict
        Options and inputs, for ``write_splits``.
    counts : dict or None
        None where anything has changed or is missing.
    """
    digest = hashlib.sha256()
    for path in lists:
        digest.update(Path(path).read_bytes())
    for path in paths:
        digest.update(os.fsencode(path))
        if os.path.exists(path):  # not a link into nowhere
            stat = os.stat(path)
            # Who replaces a file can set its time of change, not this one.
            times = stat.st_mtime_ns, stat.st_ctime_ns
            digest.update(f"{stat.st_size} {times}".encode())
    state = {"options": options, "inputs": digest.hexdigest()}
    files = [
        Path(save_folder, name)
        for name in ("prepare.json", "train.csv", "valid.csv")
    ]
    if not all(path.is_file() for path in files):
        return state, None
    done = json.loads(files[0].read_text(encoding="utf-8"))
    if {key: done.get(key) for key in state} != state:
        return state, None
    logger.info("The manifests in %s are up to date", save_folder)
    return state, done["counts"]


def report_excluded(path, excluded, n_files, max_excluded):
    """Writes what was left out, and refuses when it is too much.

    Arguments
    ---------
    path : str
        The CSV file to write (path, reason, value).
    excluded : list of Excluded
        What was left out.
    n_files : int
        Of how many.
    max_excluded : float
        The largest share to accept, 0 to 1.

    Returns
    -------
    dict
        Reason -> count.

    Raises
    ------
    UserError
        More than ``max_excluded`` was left out.
    """
    write_csv(path, ["path", "reason", "value"], excluded)
    counts = dict(sorted(Counter(file.reason for file in excluded).items()))
    if len(excluded) > max_excluded * n_files:
        reasons = ", ".join(f"{n} {reason}" for reason, n in counts.items())
        raise UserError(
            f"{len(excluded)} of {n_files} files cannot be used ({reasons}), "
            f"more than max_excluded={max_excluded:g} allows; the first is "
            f"{': '.join(excluded[0])}. The whole list is in {path}"
        )
    return counts


def write_splits(save_folder, utterances, valid_speakers, seed, state, facts):
    """Writes train.csv, valid.csv and, last of all, prepare.json.

    Arguments
    ---------
    save_folder : str
        Where to write.
    utterances : list of Utterance
        All that may be used.
    valid_speakers : int or list of str
        How many speakers to hold out for validation (drawn by the seed from
        the quarter of the speakers with the most utterances: more pairs, a
        steadier EER), or which.
    seed : int
        Of the draw.
    state : dict
        As ``up_to_date`` returns it.
    facts : dict
        What else to count: ``left_out`` by reason, and numbers by name.

    Returns
    -------
    dict
        Counts of both splits, and the facts.

    Raises
    ------
    UserError
        An utterance that comes twice, unknown validation speakers or too few
        with two utterances, fewer than two training speakers.
    """
    by_speaker, places = defaultdict(list), {}
    for utterance in utterances:
        by_speaker[utterance.spk_id].append(utterance)
        other = places.setdefault(utterance.ID, utterance.wav)
        if other != utterance.wav:
            raise UserError(
                f"{other} and {utterance.wav} are the same utterance "
                f"{utterance.ID}: remove one"
            )
    held_out = _hold_out(by_speaker, valid_speakers, seed)
    counts = {
        split: _count(
            [u for s, u in by_speaker.items() if (s in held_out) == v]
        )
        for split, v in (("train", False), ("valid", True))
    }
    counts.update(facts)
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
            [u for u in utterances if (u.spk_id in held_out) == chosen],
        )
    write_json(record, {**state, "counts": counts})
    _log(counts, save_folder)
    return counts


def _hold_out(by_speaker, valid_speakers, seed):
    """The speakers that validation uses and training never sees."""
    if not isinstance(valid_speakers, int):
        valid_speakers = as_list(valid_speakers, "valid_speakers")
        unknown = sorted(set(valid_speakers) - set(by_speaker))
        if unknown:
            raise UserError(
                f"valid_speakers: {', '.join(unknown)} not in the corpus, or "
                "in a trial list"
            )
        return set(valid_speakers)
    able = sorted(s for s, found in by_speaker.items() if len(found) > 1)
    most = min(len(able), len(by_speaker) - 2)
    if not 2 <= valid_speakers <= most:
        raise UserError(
            f"valid_speakers={valid_speakers}: {len(able)} of "
            f"{len(by_speaker)} speakers have the two utterances needed for "
            "validation, and two must remain for training: "
            + (f"choose 2 to {most}" if most >= 2 else "there are too few")
        )
    able.sort(key=lambda s: (-len(by_speaker[s]), s))
    able = able[: max(len(by_speaker) // 4, valid_speakers)]
    return set(random.Random(seed).sample(able, valid_speakers))


def _count(speakers):
    """Of the utterances of each speaker."""
    seconds = sum(u.duration for found in speakers for u in found)
    return {
        "speakers": len(speakers),
        "utterances": sum(map(len, speakers)),
        "hours": round(seconds / 3600, 3),
        "speakers_with_one_utterance": sum(len(u) == 1 for u in speakers),
    }


def _log(counts, save_folder):
    for split in ("train", "valid"):
        logger.info("%s: %s", split, counts[split])
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
    if counts["left_out"]:
        logger.warning(
            "files left out: %s; each is named in %s/excluded.csv",
            counts["left_out"],
            save_folder,
        )
