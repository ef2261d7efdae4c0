"""From a corpus's files to the manifests of training and validation."""

import contextlib
import hashlib
import json
import os
import random
from collections import Counter, defaultdict
from dataclasses import make_dataclass
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.audio import Excluded, check_all
from speechbrain_scl.data.manifest import Utterance, write_csv, write_manifest
from speechbrain_scl.data.names import spelling
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import write_json

logger = get_logger(__name__)

SPLITS = ("train", "valid")
# Intervals come from resampling the test speakers. Resamples of fewer repeat
# one another: of two, half are the same pair.
FEWEST_TEST_SPEAKERS = 10


def up_to_date(options, lists, paths):
    """The state of a corpus (options, content of its lists; name, size and
    times of its files), and the counts of an earlier preparation of the same,
    or None."""
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
    folder = Path(options["save_folder"])
    if all(Path(folder, f"{name}.csv").is_file() for name in SPLITS):
        # It may be damaged, or none.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            done = json.loads(Path(folder, "prepare.json").read_text("utf-8"))
            if {key: done[key] for key in state} == state:
                logger.info(f"The manifests in {folder} are up to date")
                return state, done["counts"]
    return state, None


def parts_of(files):
    """Path -> its folders and its name without ending, of the files of each
    folder of a corpus: (speaker, session, utterance)."""
    return {
        path: Path(path).relative_to(folder).with_suffix("").parts
        for folder, paths in files.items()
        for path in paths
    }


def refuse_tested(speakers, tested, source):
    """No speaker of a test may be trained on."""
    tested = set(map(spelling, tested))
    common = sorted(s for s in speakers if spelling(s) in tested)
    if common:
        raise UserError(
            f"{len(common)} training speakers are in {source} too; the first "
            f"is {common[0]}"
        )


def judge(parts, column, options):
    """The utterances of the files that can be used, with a further column, and
    counts of the others by reason; excluded.csv names each. ``parts`` are a
    path's speaker, column and name."""
    why = f"not <speaker>/<{column}>/<utterance>"
    accepted, excluded = check_all(
        [path for path, names in parts.items() if len(names) == 3],
        min_duration=options["min_duration"],
        check=options["check_audio"],
    )
    left_out = report_excluded(
        os.path.join(options["save_folder"], "excluded.csv"),
        [Excluded(p, "place", why) for p in parts if len(parts[p]) != 3]
        + excluded,
        len(parts),
        options["max_excluded"],
    )
    row = make_dataclass("Row", [column], bases=(Utterance,), frozen=True)
    rows = []
    for path, samples, seconds in accepted:
        speaker, group, _ = names = parts[path]
        place = seconds, os.path.abspath(path), 0, samples
        rows.append(row("--".join(names), *place, speaker, group))
    return rows, left_out


def report_excluded(path, excluded, n_files, max_excluded):
    """Writes what was left out, refuses when it is too much, and counts."""
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


def write_splits(state, utterances, **facts):
    """Writes train.csv, valid.csv and, last of all, prepare.json; returns the
    counts. valid_speakers are names, or how many to draw from the quarter of
    the speakers with the most utterances: more pairs, a steadier EER."""
    options = state["options"]
    save_folder = options["save_folder"]
    by_speaker, places = defaultdict(list), {}
    for utterance in utterances:
        by_speaker[utterance.spk_id].append(utterance)
        other = places.setdefault(utterance.ID, utterance.wav)
        if other != utterance.wav:
            raise UserError(
                f"{other} and {utterance.wav} are the same utterance "
                f"{utterance.ID}: remove one"
            )
    held_out = _hold_out(by_speaker, options["valid_speakers"], options["seed"])
    splits, counts = {name: [] for name in SPLITS}, {}
    for utterance in utterances:
        splits[SPLITS[utterance.spk_id in held_out]].append(utterance)
    for name, chosen in splits.items():
        of_speaker = Counter(u.spk_id for u in chosen)
        counts[name] = {
            "speakers": len(of_speaker),
            "utterances": len(chosen),
            "hours": round(sum(u.duration for u in chosen) / 3600, 3),
            "speakers_with_one_utterance": list(of_speaker.values()).count(1),
        }
    counts |= facts
    n_speakers = counts["train"]["speakers"]
    if n_speakers < 2:
        raise UserError(
            f"{n_speakers} training speaker(s) remain without the "
            f"{len(held_out)} for validation and those of the trial lists; at "
            "least 2 are needed"
        )
    record = Path(save_folder, "prepare.json")
    # Interrupted from here on, the next run must not trust the old record.
    record.unlink(missing_ok=True)
    for name, chosen in splits.items():
        write_manifest(os.path.join(save_folder, f"{name}.csv"), chosen)
    write_json(record, {**state, "counts": counts})
    for name, found in counts.items():
        logger.info("%s: %s", name.replace("_", " "), found)
    singles = counts["train"]["speakers_with_one_utterance"]
    if singles:
        logger.warning(
            f"{singles} training speakers have one utterance: their positives "
            "come from its augmented views only"
        )
    if counts["left_out"]:
        logger.warning(
            f"files left out: {counts['left_out']}; each is named in "
            f"{save_folder}/excluded.csv"
        )
    return counts


def _hold_out(by_speaker, valid_speakers, seed):
    """The speakers that validation uses and training never sees."""
    if not isinstance(valid_speakers, int):
        named = set(as_list(valid_speakers, "valid_speakers"))
        if unknown := sorted(named - set(by_speaker)):
            raise UserError(
                f"valid_speakers: {', '.join(unknown)} not in the corpus, or "
                "in a trial list"
            )
        return named
    n = len(by_speaker)
    able = sorted(s for s, found in by_speaker.items() if len(found) > 1)
    most = min(len(able), n - 2)
    if not 2 <= valid_speakers <= most:
        raise UserError(
            f"valid_speakers={valid_speakers}: {len(able)} of {n} speakers "
            "have the two utterances needed for validation, and two must "
            "remain for training: "
            + (f"choose 2 to {most}" if most >= 2 else "there are too few")
        )
    able.sort(key=lambda s: (-len(by_speaker[s]), s))
    able = able[: max(n // 4, valid_speakers)]
    return set(random.Random(seed).sample(able, valid_speakers))
