"""Data preparation of VoxCeleb and of any corpus in its layout.

Download: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/

The layout is <data_folder>/wav/<speaker>/<session>/<utterance>.wav (or .flac).
VoxCeleb2 comes as .m4a and has to be converted first.
"""

import hashlib
import json
import os
import random
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_scl.corpora.audio import Excluded, check_all, find_audio
from speechbrain_scl.corpora.download import fetch_file
from speechbrain_scl.corpora.manifest import (
    Utterance,
    report_excluded,
    write_manifest,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.files import write_json

logger = get_logger(__name__)

SAMPLE_RATE = 16000


def prepare_voxceleb(
    data_folder,
    save_folder,
    verification_files,
    valid_speakers=40,
    min_duration=1.0,
    check_audio="headers",
    max_excluded=0.05,
    seed=1986,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, excluded.csv and prepare.json.

    Every speaker of a trial list, in either column, stays out of training and
    validation. The validation speakers are held out of training too. All is
    redone when an option, a list or the set of files has changed.

    Arguments
    ---------
    data_folder : str or list of str
        One folder or several (a list, or separated by commas), each with wav/.
    save_folder : str
        Where the manifests are written.
    verification_files : str or list of str
        Trial lists, paths or URLs.
    valid_speakers : int or list of str
        How many speakers to hold out (drawn by the seed from the quarter of
        the speakers with the most utterances: more pairs, a steadier EER), or
        which.
    min_duration : float
        Seconds; shorter files are left out and counted.
    check_audio : str
        ``headers`` (fast), or ``full``: decode every file once.
    max_excluded : float
        Refuse when a larger share of the files cannot be used.
    seed : int
        Draws the validation speakers.
    skip_prep : bool
        Trust the manifests that are there.

    Returns
    -------
    dict
        Counts: files, seconds, speakers of each split, files left out by
        reason. None with ``skip_prep``.

    Raises
    ------
    UserError
        What is wrong with the folder, its files or a list, and the remedy.

    Example
    -------
    >>> prepare_voxceleb(  # doctest: +SKIP
    ...     "/path/to/VoxCeleb1", "results/save", "veri_test2.txt"
    ... )
    """
    if skip_prep:
        return None
    roots = _as_list(data_folder)
    paths = {root: find_audio(_wav_folder(root)) for root in roots}
    lists = [
        fetch_file(source, save_folder)
        for source in _as_list(verification_files)
    ]
    options = {
        "data_folder": roots,
        "valid_speakers": valid_speakers,
        "min_duration": min_duration,
        "check_audio": check_audio,
        "max_excluded": max_excluded,
        "seed": seed,
    }
    state = {"options": options, "inputs": _digest(lists, paths)}
    record = Path(save_folder) / "prepare.json"
    if all(
        (Path(save_folder) / name).is_file()
        for name in ("prepare.json", "train.csv", "valid.csv")
    ):
        done = json.loads(record.read_text(encoding="utf-8"))
        if {key: done.get(key) for key in state} == state:
            logger.info("The manifests in %s are up to date", save_folder)
            return done["counts"]

    trial_speakers = _trial_speakers(lists)
    speaker_of, misplaced = {}, []
    for root, files in paths.items():
        for path in files:
            parts = Path(path).relative_to(_wav_folder(root)).parts
            if len(parts) == 3:
                speaker_of[path] = parts[0]
            else:
                misplaced.append(
                    Excluded(
                        path, "place", "not <speaker>/<session>/<utterance>"
                    )
                )
    wanted = [p for p, s in speaker_of.items() if s not in trial_speakers]
    accepted, excluded = check_all(
        wanted,
        sample_rate=SAMPLE_RATE,
        min_duration=min_duration,
        check=check_audio,
    )
    left_out = report_excluded(
        os.path.join(save_folder, "excluded.csv"),
        misplaced + excluded,
        len(wanted) + len(misplaced),
        max_excluded,
    )

    utterances = [_utterance(f, speaker_of[f.path]) for f in accepted]
    _refuse_duplicates(utterances)
    held_out = _held_out(utterances, valid_speakers, seed, roots)
    train = [u for u in utterances if u.spk_id not in held_out]
    valid = [u for u in utterances if u.spk_id in held_out]
    counts = {
        "train": _count(train),
        "valid": _count(valid),
        "left_out": left_out,
        "trial_speakers_kept_out": len(
            trial_speakers & set(speaker_of.values())
        ),
    }
    if counts["train"]["speakers"] < 2:
        raise UserError(
            f"{', '.join(roots)}: {counts['train']['speakers']} training "
            f"speaker(s) remain without the {len(held_out)} for validation "
            f"and {counts['trial_speakers_kept_out']} of the trial lists; at "
            "least 2 are needed"
        )
    # Interrupted from here on, the next run must not trust the old record.
    record.unlink(missing_ok=True)
    write_manifest(os.path.join(save_folder, "valid.csv"), valid)
    write_manifest(os.path.join(save_folder, "train.csv"), train)
    write_json(record, {**state, "counts": counts})
    _log(counts, save_folder)
    return counts


def _as_list(value):
    if isinstance(value, str):
        value = value.split(",")
    return [str(item).strip() for item in value]


def _wav_folder(root):
    folder = os.path.join(root, "wav")
    if not os.path.isdir(root):
        raise UserError(
            f"data_folder={root}: there is no such folder; name yours with "
            "--data_folder=/path/to/corpus"
        )
    if not os.path.isdir(folder):
        raise UserError(
            f"data_folder={root}: it has no wav/ with <speaker>/<session>/"
            "<utterance>.wav below it"
        )
    return folder


def _digest(lists, paths):
    """Changes with the content of a list and with the files of the corpus."""
    digest = hashlib.sha256()
    for path in lists:
        digest.update(Path(path).read_bytes())
    for files in paths.values():
        for path in files:
            digest.update(os.fsencode(path))
            if os.path.exists(path):  # not a link into nowhere
                stat = os.stat(path)
                digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _trial_speakers(lists):
    speakers = set()
    for path in lists:
        trials = read_trials(path)
        for name in [*trials.enrol_ids, *trials.test_ids]:
            speakers.add(name.split("/")[0])
    return speakers


def _utterance(file, speaker):
    session, name = Path(file.path).parts[-2:]
    return Utterance(
        ID="--".join([speaker, session, os.path.splitext(name)[0]]),
        duration=file.duration,
        wav=os.path.abspath(file.path),
        start=0,
        stop=file.samples,
        spk_id=speaker,
    )


def _refuse_duplicates(utterances):
    seen = {}
    for utterance in utterances:
        other = seen.setdefault(utterance.ID, utterance.wav)
        if other != utterance.wav:
            raise UserError(
                f"{other} and {utterance.wav} are the same utterance "
                f"{utterance.ID}: remove one"
            )


def _held_out(utterances, valid_speakers, seed, roots):
    per_speaker = {}
    for utterance in utterances:
        n = per_speaker.get(utterance.spk_id, 0)
        per_speaker[utterance.spk_id] = n + 1
    if not isinstance(valid_speakers, int):
        valid_speakers = _as_list(valid_speakers)
        unknown = sorted(set(valid_speakers) - set(per_speaker))
        if unknown:
            raise UserError(
                f"valid_speakers: {', '.join(unknown)} not in "
                f"{', '.join(roots)}, or in a trial list"
            )
        return set(valid_speakers)
    able = sorted(s for s, n in per_speaker.items() if n > 1)
    if not 2 <= valid_speakers <= min(len(able), len(per_speaker) - 2):
        raise UserError(
            f"valid_speakers={valid_speakers}: {len(able)} of "
            f"{len(per_speaker)} speakers have the two utterances needed for "
            "validation, and two must remain for training: choose 2 to "
            f"{min(len(able), len(per_speaker) - 2)}"
        )
    most = sorted(able, key=lambda s: (-per_speaker[s], s))
    most = most[: max(len(per_speaker) // 4, valid_speakers)]
    return set(random.Random(seed).sample(most, valid_speakers))


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
    logger.info(
        "%d speakers of the trial lists kept out of both",
        counts["trial_speakers_kept_out"],
    )
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
