"""Data preparation of VoxCeleb and of any corpus in its layout.

Download: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/

The layout is <data_folder>/wav/<speaker>/<session>/<utterance>.wav (or .flac).
VoxCeleb2 comes as .m4a and has to be converted first.
"""

import dataclasses
import os

from speechbrain_scl.data.audio import Excluded, check_all, find_audio
from speechbrain_scl.data.download import fetch_file
from speechbrain_scl.data.manifest import Utterance
from speechbrain_scl.data.names import locate, tidy
from speechbrain_scl.data.splits import (
    report_excluded,
    up_to_date,
    write_splits,
)
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials

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
    trials_of_other_corpus=False,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, excluded.csv and prepare.json.

    Every speaker of a trial list, in either column, stays out of training and
    validation. The validation speakers are held out of training too. Each row
    has its session. All is redone when an option, a list or a file has changed.

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
    trials_of_other_corpus : bool
        Whether a trial list may name utterances that are not in the folders.
        Speakers of the same name are kept out all the same.
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
        "trials_of_other_corpus": trials_of_other_corpus,
    }
    files = {folder: find_audio(folder) for folder in folders}
    everything = [path for paths in files.values() for path in paths]
    state, done = up_to_date(save_folder, options, lists, everything)
    if done:
        return done

    tested = _tested(lists, roots, files, trials_of_other_corpus)
    wanted, left_out, kept_out = [], [], set()
    for folder, paths in files.items():
        for path in paths:
            speaker, *place = os.path.relpath(path, folder).split(os.sep)
            if len(place) != 2:
                reason = "not <speaker>/<session>/<utterance>"
                left_out.append(Excluded(path, "place", reason))
            elif _key(speaker) in tested:
                kept_out.add(speaker)
            else:
                wanted.append(path)
    accepted, excluded = check_all(
        wanted,
        sample_rate=SAMPLE_RATE,
        min_duration=min_duration,
        check=check_audio,
    )
    reasons = report_excluded(
        os.path.join(save_folder, "excluded.csv"),
        left_out + excluded,
        len(left_out) + len(wanted),
        max_excluded,
    )
    return write_splits(
        save_folder,
        list(map(_utterance, accepted)),
        valid_speakers,
        seed,
        state,
        {"left_out": reasons, "trial_speakers_kept_out": len(kept_out)},
    )


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


def _tested(lists, roots, files, other_corpus):
    """The speakers of trial lists, as ``_key`` spells them."""
    speaker_of = {
        path: os.path.relpath(path, folder).split(os.sep)[0]
        for folder, paths in files.items()
        for path in paths
    }
    speakers = set()
    for path in lists:
        trials = read_trials(path)
        names = {*trials.enrol_ids, *trials.test_ids}
        try:
            found = locate(
                names, roots, path, trials.line_of, speaker_of, other_corpus
            )
        except UserError as error:
            raise UserError(
                f"{error}. Its speakers must not be trained on; if all the "
                "others are of another corpus: --trials_of_other_corpus=True"
            ) from error
        speakers.update(speaker_of[file] for file in found.values())
        for name in names - set(found):
            speakers.add(tidy(name).removeprefix("wav/").split("/")[0])
    return set(map(_key, speakers))


def _key(speaker):
    return tidy(speaker).casefold()


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
