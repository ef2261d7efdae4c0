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
import operator
import os
from itertools import groupby
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.audio import Excluded, walk_audio
from speechbrain_scl.data.joining import group_short, write_joined
from speechbrain_scl.data.manifest import Utterance, report_excluded, write_csv
from speechbrain_scl.data.scan import Scan
from speechbrain_scl.data.splits import (
    counts_if_up_to_date,
    digest,
    hold_out,
    per_speaker,
    write_splits,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.enrolment import read_enrolment_map
from speechbrain_scl.evaluation.trials import read_trials

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


@dataclasses.dataclass(frozen=True)
class GenreUtterance(Utterance):
    """A row with the genre: interview, singing, vlog, ...

    Arguments
    ---------
    genre : str
        As the file's name begins.
    """

    genre: str


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
    prep_workers=0,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, eval.csv, excluded.csv and prepare.json.

    Training speakers are those of dev.lst and all of CN-Celeb2; a speaker of
    the trial list among them is an error. eval.csv holds the genre of each
    test utterance, for results per genre. Memory grows with the trials and with
    the utterances of one speaker, not with those of all, but for eight bytes of
    each.

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
    prep_workers : int
        Processes that check the files; 0 takes threads of this one. A check
        that was killed goes on where it was (scan.jsonl).
    skip_prep : bool
        Trust the manifests that are there.

    Returns
    -------
    dict
        Counts: files, seconds, speakers of each split, files left out by
        reason, what was joined. None with ``skip_prep``.

    Raises
    ------
    UserError
        What is wrong with the folders, lists or files, and the remedy.

    Example
    -------
    >>> prepare_cnceleb(  # doctest: +SKIP
    ...     "/path/to/CN-Celeb_flac", "/path/to/CN-Celeb2_flac", "results/save"
    ... )
    """
    if skip_prep:
        return None
    lists = {
        name: _need(cnceleb1_folder, name)
        for name in (
            "dev/dev.lst",
            "eval/lists/enroll.map",
            "eval/lists/trials.lst",
        )
    }
    speakers = Path(lists["dev/dev.lst"]).read_text(encoding="utf-8").split()
    folders = {s: os.path.join(cnceleb1_folder, "data", s) for s in speakers}
    found = {"CN-Celeb1 training speakers": len(folders)}
    if cnceleb2_folder:
        data = _need(cnceleb2_folder, "data")
        second = {s: os.path.join(data, s) for s in sorted(os.listdir(data))}
        found["CN-Celeb2 training speakers"] = len(second)
        twice = sorted(set(folders) & set(second))
        if twice:
            raise UserError(
                f"{data}: {len(twice)} speakers are in CN-Celeb1's dev.lst "
                f"too; the first is {twice[0]}"
            )
        folders.update(second)
    options = {
        "cnceleb1_folder": cnceleb1_folder,
        "cnceleb2_folder": cnceleb2_folder,
        "valid_speakers": valid_speakers,
        "min_duration": min_duration,
        "joined_duration": joined_duration,
        "check_audio": check_audio,
        "max_excluded": max_excluded,
        "strict": strict,
        "seed": seed,
    }
    state = {
        "options": options,
        "inputs": digest(list(lists.values()), _walk_all(folders)),
    }
    done = counts_if_up_to_date(save_folder, state)
    if done:
        return done

    trials = read_trials(lists["eval/lists/trials.lst"])
    models = read_enrolment_map(lists["eval/lists/enroll.map"])
    found["enrolment models"] = len(models)
    found["test utterances"] = len(trials.test_ids)
    found["trials"] = len(trials)
    _compare(found, strict)
    _refuse_eval_speakers(folders, trials, models, lists)
    _write_eval(os.path.join(save_folder, "eval.csv"), trials)

    scan = Scan(os.path.join(save_folder, "scan.jsonl"))
    n_files = scan.run(
        _walk_all(folders),
        prep_workers,
        sample_rate=SAMPLE_RATE,
        min_duration=0.0 if joined_duration else min_duration,
        check=check_audio,
    )
    left_out = report_excluded(
        os.path.join(save_folder, "excluded.csv"),
        (file for file in scan if isinstance(file, Excluded)),
        n_files,
        max_excluded,
    )
    rows = _Utterances(scan, folders)
    facts = {"left_out": left_out, "short_utterances_joined": 0}
    if joined_duration:
        rows = _Joined(
            rows, joined_duration, min_duration, f"{save_folder}/joined"
        )
        rows.write()
        facts["short_utterances_joined"] = rows.n_joined
        if rows.n_short:
            left_out["too short, even joined"] = rows.n_short
    speakers = per_speaker(rows)
    counts = write_splits(
        save_folder,
        rows,
        speakers,
        hold_out(speakers, valid_speakers, seed, cnceleb1_folder),
        state,
        facts,
    )
    scan.remove()
    return counts


def _walk_all(folders):
    """The files, speaker by speaker."""
    for folder in folders.values():
        yield from walk_audio(folder)


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


def _refuse_eval_speakers(folders, trials, models, lists):
    """No speaker of the evaluation may be trained on."""
    tested = {_speaker(n) for n in [*trials.enrol_ids, *trials.test_ids]}
    tested.update(_speaker(name) for name in models)
    common = sorted(tested & set(folders))
    if common:
        raise UserError(
            f"{len(common)} training speakers are in "
            f"{lists['eval/lists/trials.lst']} or enroll.map; the first is "
            f"{common[0]}"
        )


def _speaker(name):
    """id00800 of id00800-enroll and of test/id00800-singing-01-001.wav."""
    return os.path.basename(name).split("-")[0]


def _write_eval(path, trials):
    """The genre of each test utterance."""
    write_csv(
        path,
        ["path", "speaker", "genre"],
        (
            [name, *os.path.basename(name).split("-")[:2]]
            for name in trials.test_ids
        ),
    )


class _Utterances:
    """The rows of a scan, speaker by speaker, as often as wanted."""

    def __init__(self, scan, speakers):
        self.scan, self.speakers = scan, speakers

    def __iter__(self):
        for file in self.scan:
            if not isinstance(file, Excluded):
                above = reversed(file.path.split(os.sep)[:-1])
                yield _utterance(
                    file, next(name for name in above if name in self.speakers)
                )


def _utterance(file, speaker):
    name = os.path.splitext(os.path.basename(file.path))[0]
    genre, _, rest = name.partition("-")
    return GenreUtterance(
        ID=f"{speaker}--{genre}--{rest}",
        duration=file.duration,
        wav=os.path.abspath(file.path),
        start=0,
        stop=file.samples,
        spk_id=speaker,
        genre=genre,
    )


class _Joined:
    """Rows of which short ones are joined, as often as wanted; no more than
    those of one speaker are held."""

    def __init__(self, rows, least, min_duration, folder):
        self.rows, self.least, self.min_duration = rows, least, min_duration
        self.folder = os.path.abspath(folder)

    def write(self):
        """Writes the joined files; counts what they are made of, and what
        stays too short."""
        self.n_joined = self.n_short = 0
        write_joined(self._jobs())

    def _jobs(self):
        for row, parts in self._groups():
            if row.duration < self.min_duration:
                self.n_short += 1
            elif len(parts) > 1:
                self.n_joined += len(parts)
                yield row.wav, [part.wav for part in parts], row.stop

    def __iter__(self):
        for row, _ in self._groups():
            if row.duration >= self.min_duration:
                yield row

    def _groups(self):
        """Each row, and the rows that it is made of."""
        for _, rows in groupby(self.rows, operator.attrgetter("spk_id")):
            alike = {}
            for row in rows:
                alike.setdefault(row.genre, []).append(row)
            for _, group in sorted(alike.items()):
                group.sort(key=operator.attrgetter("wav"))
                durations = [row.duration for row in group]
                for chosen in group_short(durations, self.least):
                    parts = [group[i] for i in chosen]
                    yield self._one(parts), parts

    def _one(self, parts):
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
            wav=os.path.join(
                self.folder, speaker, f"{genre}-joined-{key}.flac"
            ),
            stop=samples,
        )
