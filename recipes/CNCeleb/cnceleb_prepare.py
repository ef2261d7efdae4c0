"""Data preparation of CN-Celeb.

Download: https://www.openslr.org/82/

The layout is that of the archives cn-celeb_v2.tar.gz and cn-celeb2_v2.tar.gz:

    CN-Celeb_flac/data/<speaker>/<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/dev/dev.lst                the training speakers
    CN-Celeb_flac/eval/enroll/<speaker>-enroll.flac
    CN-Celeb_flac/eval/test/<speaker>-<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/eval/lists/enroll.map      model, utterances below data/
    CN-Celeb_flac/eval/lists/enroll.lst      model, its recording in enroll/
    CN-Celeb_flac/eval/lists/trials.lst      model, test utterance, 1 or 0
    CN-Celeb2_flac/data/<speaker>/<genre>-<session>-<utterance>.flac

The lists name .wav files; on disk they are .flac.
"""

import dataclasses
import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.audio import find_audio
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.data.names import tidy
from speechbrain_scl.data.splits import (
    judge,
    refuse_tested,
    up_to_date,
    write_splits,
)
from speechbrain_scl.data.tables import read_lines
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_enrolment_map, read_trials
from speechbrain_scl.files import write_audio

logger = get_logger(__name__)

SAMPLE_RATE = 16000
# CN-Celeb v2 and CN-Celeb2 as they are distributed
EXPECTED = {
    "CN-Celeb1 training speakers": 797,
    "CN-Celeb2 training speakers": 1_996,
    "enrolment models": 196,
    "test utterances": 17_777,
    "trials": 3_484_292,
}


def prepare_cnceleb(
    cnceleb1_folder,
    cnceleb2_folder,
    save_folder,
    valid_speakers=40,
    min_duration=1.0,
    joined_duration=5.0,
    check_audio="headers",
    max_excluded=0.05,
    strict=True,
    seed=1986,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, eval.csv, excluded.csv and prepare.json.

    Training speakers are those of dev.lst and all of CN-Celeb2; a speaker of
    the trial list among them is an error. eval.csv holds the genre of each
    test utterance, for results per genre.

    Arguments
    ---------
    cnceleb1_folder, cnceleb2_folder : str or None
        .../CN-Celeb_flac and .../CN-Celeb2_flac; None leaves CN-Celeb2 out.
    save_folder : str
        Where the manifests (and joined utterances) are written.
    valid_speakers : int or list of str
        How many speakers to hold out, or which.
    min_duration : float
        Seconds; shorter files are left out and counted, unless they are
        joined.
    joined_duration : float
        Short utterances of one speaker and genre are joined, in the order of
        their names, until they have so many seconds; 0 joins none. Joined
        files are written to ``save_folder``/joined: any tool can read the
        manifest, for the disk space of the short ones.
    check_audio : str
        ``headers`` (fast), or ``full``: decode every file once.
    max_excluded : float
        Refuse when a larger share of the files cannot be used.
    strict : bool
        Whether another number of speakers, models, test utterances or trials
        than is distributed is an error, or a warning.
    seed : int
        Draws the validation speakers.
    skip_prep : bool
        Trust the manifests that are there.

    Returns
    -------
    dict
        Counts: files, seconds, speakers of each split, files left out by
        reason, what was joined. None with ``skip_prep``.

    Example
    -------
    >>> prepare_cnceleb(  # doctest: +SKIP
    ...     "/path/to/CN-Celeb_flac", "/path/to/CN-Celeb2_flac", "results/save"
    ... )
    """
    options = dict(locals())
    if skip_prep:
        return None
    speakers, enrolment_map, trial_list = lists = [
        _need(cnceleb1_folder, name)
        for name in (
            "dev/dev.lst",
            "eval/lists/enroll.map",
            "eval/lists/trials.lst",
        )
    ]
    folders = {
        speaker: os.path.join(cnceleb1_folder, "data", speaker)
        for _, speaker in read_lines(speakers)
    }
    found = {"CN-Celeb1 training speakers": len(folders)}
    if cnceleb2_folder:
        data = _need(cnceleb2_folder, "data")
        second = {
            entry.name: entry.path
            for entry in sorted(os.scandir(data), key=lambda e: e.name)
            if entry.is_dir() and not entry.name.startswith((".", "@"))
        }
        found["CN-Celeb2 training speakers"] = len(second)
        twice = sorted(set(folders) & set(second))
        if twice:
            raise UserError(
                f"{data}: {len(twice)} speakers are in CN-Celeb1's dev.lst "
                f"too; the first is {twice[0]}"
            )
        folders.update(second)
    parts = {}
    for speaker, folder in folders.items():
        for path in find_audio(folder):
            genre, _, rest = Path(path).stem.partition("-")
            parts[path] = speaker, genre, rest
    state, done = up_to_date(options, lists, parts)
    if done:
        return done

    trials, models = read_trials(trial_list), read_enrolment_map(enrolment_map)
    found["enrolment models"] = len(models)
    found["test utterances"] = len(trials.test_ids)
    found["trials"] = len(trials)
    _compare(found, strict)
    unknown = sorted(set(trials.enrol_ids) - set(models))
    if unknown:
        raise UserError(
            f"{trial_list}: {len(unknown)} models are not in {enrolment_map}; "
            f"the first is {unknown[0]} in line {trials.line_of(unknown[0])}"
        )
    # id00800 of id00800-enroll and of test/id00800-singing-01-001.wav
    tested = {
        tidy(name).split("/")[-1].split("-")[0]
        for name in (*trials.enrol_ids, *trials.test_ids, *models)
    }
    refuse_tested(folders, tested, f"{trial_list} or {enrolment_map}")
    write_csv(
        os.path.join(save_folder, "eval.csv"),
        ["path", "speaker", "genre"],
        (
            [name, *os.path.basename(name).split("-")[:2]]
            for name in trials.test_ids
        ),
    )
    least = 0.0 if joined_duration else min_duration
    judged_by = {**options, "min_duration": least}
    rows, left_out = judge(parts, "genre", judged_by)
    n_joined = 0
    if joined_duration:
        folder = os.path.abspath(f"{save_folder}/joined")
        jobs = _join(rows, joined_duration, folder)
        short = [row for row in jobs if row.duration < min_duration]
        if short:
            left_out["too short, even joined"] = len(short)
        rows = [row for row in jobs if row.duration >= min_duration]
        jobs = {row: jobs[row] for row in rows if len(jobs[row]) > 1}
        progress = {"desc": "Joining short utterances", "dynamic_ncols": True}
        with ThreadPoolExecutor() as pool:
            done = pool.map(_write, jobs, jobs.values())
            list(tqdm(done, total=len(jobs), unit="file", **progress))
        n_joined = sum(map(len, jobs.values()))
    return write_splits(
        state, rows, left_out=left_out, short_utterances_joined=n_joined
    )


def _need(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise UserError(
            f"{path}: not there; {folder} must be the folder CN-Celeb_flac or "
            "CN-Celeb2_flac of the archives at https://www.openslr.org/82/"
        )
    return path


def _compare(found, strict):
    """With the numbers of the distributed corpus."""
    wrong = [
        f"{number:,} {name} instead of {EXPECTED[name]:,}"
        for name, number in found.items()
        if number != EXPECTED[name]
    ]
    if wrong and strict:
        raise UserError(
            f"CN-Celeb is not complete: {'; '.join(wrong)}. Unpack the "
            "archives again, or accept it with strict: False"
        )
    for difference in wrong:
        logger.warning("%s", difference)


def _join(rows, least, folder):
    """Rows of which short ones are joined -> the rows that each is made of."""
    alike = defaultdict(list)
    for row in rows:  # by speaker, in the order of their names
        alike[row.spk_id, row.genre].append(row)
    return {
        _one([group[i] for i in chosen], folder): [group[i] for i in chosen]
        for group in alike.values()
        for chosen in group_short([row.duration for row in group], least)
    }


def group_short(durations, least):
    """Which neighbouring utterances to join, by the seconds of one speaker's
    utterances of one genre, in their order. One that is long enough stays
    alone; what is left over at the end joins the last group of short ones.

    Example
    -------
    >>> group_short([2.0, 6.0, 2.0, 2.0, 1.0], least=5.0)
    [[1], [0, 2, 3, 4]]
    >>> group_short([1.0, 1.0], least=5.0)
    [[0, 1]]
    """
    alone = [[i] for i, d in enumerate(durations) if d >= least]
    groups, seconds = [], least
    for i, duration in enumerate(durations):
        if duration < least:
            if seconds >= least:
                groups.append([])
                seconds = 0.0
            groups[-1].append(i)
            seconds += duration
    if len(groups) > 1 and seconds < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    return alone + groups


def _one(parts, folder):
    """One row of several."""
    if len(parts) == 1:
        return parts[0]
    # Named by its parts: other ones never pass for these.
    names = "\n".join(f"{p.wav} {p.stop}" for p in parts)
    key = hashlib.sha256(names.encode()).hexdigest()[:12]
    speaker, genre = parts[0].spk_id, parts[0].genre
    samples = sum(part.stop for part in parts)
    return dataclasses.replace(
        parts[0],
        ID=f"{speaker}--{genre}--joined-{key}",
        duration=samples / SAMPLE_RATE,
        wav=os.path.join(folder, speaker, f"{genre}-joined-{key}.flac"),
        stop=samples,
    )


def _write(row, parts):
    """Writes a row's parts as one FLAC file. One that is there is trusted:
    files appear only when they are complete."""
    if os.path.isfile(row.wav):
        return
    signal = np.concatenate(
        [soundfile.read(part.wav, dtype="int16")[0] for part in parts]
    )
    if len(signal) != row.stop:
        raise UserError(
            f"{', '.join(part.wav for part in parts)}: {len(signal)} samples "
            f"instead of the {row.stop} of their headers; check_audio=full "
            "leaves such files out"
        )
    write_audio(row.wav, signal, SAMPLE_RATE)
