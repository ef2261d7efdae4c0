"""Data preparation of VoxCeleb and of any corpus in its layout.

Download: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/

The layout is <data_folder>/wav/<speaker>/<session>/<utterance>.wav (or .flac).
VoxCeleb2 comes as .m4a and has to be converted first.
"""

import dataclasses
import itertools
import os

from speechbrain_scl.data.audio import Excluded, walk_audio
from speechbrain_scl.data.download import fetch_file
from speechbrain_scl.data.manifest import Utterance, report_excluded
from speechbrain_scl.data.scan import Scan
from speechbrain_scl.data.splits import (
    counts_if_up_to_date,
    digest,
    hold_out,
    per_speaker,
    write_splits,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.values import as_list

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class SessionUtterance(Utterance):
    """A row with the session: the video or sitting of the recording.

    Arguments
    ---------
    session : str
        The folder below the speaker's.
    """

    session: str


def prepare_voxceleb(
    data_folder,
    save_folder,
    verification_files,
    valid_speakers=40,
    min_duration=1.0,
    check_audio="headers",
    max_excluded=0.05,
    seed=1986,
    prep_workers=0,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, excluded.csv and prepare.json.

    Every speaker of a trial list, in either column, stays out of training and
    validation. The validation speakers are held out of training too. Each row
    has its session. All is redone when an option, a list or the set of files
    has changed. A preparation that was killed goes on where it was
    (scan.jsonl); its memory does not grow with the files, but for eight bytes
    of each.

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
    prep_workers : int
        Processes that check the files; 0 takes threads of this one.
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
    roots = as_list(data_folder, "data_folder")
    folders = [_wav_folder(root) for root in roots]
    lists = [
        fetch_file(source, save_folder)
        for source in as_list(verification_files, "verification_file")
    ]
    options = {
        "data_folder": roots,
        "valid_speakers": valid_speakers,
        "min_duration": min_duration,
        "check_audio": check_audio,
        "max_excluded": max_excluded,
        "seed": seed,
    }
    state = {"options": options, "inputs": digest(lists, _walk_all(folders))}
    done = counts_if_up_to_date(save_folder, state)
    if done:
        return done

    corpus = _Corpus(folders, _trial_speakers(lists))
    scan = Scan(os.path.join(save_folder, "scan.jsonl"))
    n_files = scan.run(
        corpus.wanted(),
        prep_workers,
        sample_rate=SAMPLE_RATE,
        min_duration=min_duration,
        check=check_audio,
    )
    excluded = (file for file in scan if isinstance(file, Excluded))
    left_out = report_excluded(
        os.path.join(save_folder, "excluded.csv"),
        itertools.chain(corpus.misplaced(), excluded),
        n_files + corpus.n_misplaced,
        max_excluded,
    )
    utterances = _Utterances(scan)
    speakers = per_speaker(utterances)
    counts = write_splits(
        save_folder,
        utterances,
        speakers,
        hold_out(speakers, valid_speakers, seed, ", ".join(roots)),
        state,
        {
            "left_out": left_out,
            "trial_speakers_kept_out": len(corpus.kept_out),
        },
    )
    scan.remove()
    return counts


class _Corpus:
    """The files of the folders: wanted, misplaced, or of a trial's speaker."""

    def __init__(self, folders, trial_speakers):
        self.folders = folders
        self.trial_speakers = trial_speakers
        self.kept_out, self.n_misplaced = set(), 0

    def wanted(self):
        """Those to train and validate on; counts the others."""
        for path, speaker in self._placed():
            if speaker is None:
                self.n_misplaced += 1
            elif speaker in self.trial_speakers:
                self.kept_out.add(speaker)
            else:
                yield path

    def misplaced(self):
        """Those that no speaker can be told of."""
        reason = "place", "not <speaker>/<session>/<utterance>"
        for path, speaker in self._placed() if self.n_misplaced else ():
            if speaker is None:
                yield Excluded(path, *reason)

    def _placed(self):
        for folder in self.folders:
            for path in walk_audio(folder):
                parts = os.path.relpath(path, folder).split(os.sep)
                yield path, parts[0] if len(parts) == 3 else None


class _Utterances:
    """The rows of a scan, as often as wanted."""

    def __init__(self, scan):
        self.scan = scan

    def __iter__(self):
        for file in self.scan:
            if not isinstance(file, Excluded):
                yield _utterance(file)


def _walk_all(folders):
    for folder in folders:
        yield from walk_audio(folder)


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


def _trial_speakers(lists):
    speakers = set()
    for path in lists:
        trials = read_trials(path)
        for name in [*trials.enrol_ids, *trials.test_ids]:
            speakers.add(name.split("/")[0])
    return speakers


def _utterance(file):
    speaker, session, name = file.path.split(os.sep)[-3:]
    return SessionUtterance(
        ID="--".join([speaker, session, os.path.splitext(name)[0]]),
        duration=file.duration,
        wav=os.path.abspath(file.path),
        start=0,
        stop=file.samples,
        spk_id=speaker,
        session=session,
    )
