"""Data preparation of VoxCeleb and of any corpus in its layout.

Download: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/

The layout is <data_folder>/wav/<speaker>/<session>/<utterance>.wav (or .flac).
VoxCeleb2 comes as .m4a and has to be converted first.
"""

import os

from speechbrain_scl.data.audio import find_audio
from speechbrain_scl.data.download import fetch_file
from speechbrain_scl.data.names import locate, spelling
from speechbrain_scl.data.splits import (
    judge,
    parts_of,
    up_to_date,
    write_splits,
)
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials


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
    has its session, the folder below the speaker's. All is redone when an
    option, a list or a file has changed.

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

    Example
    -------
    >>> prepare_voxceleb(  # doctest: +SKIP
    ...     "/path/to/VoxCeleb1", "results/save", "veri_test2.txt"
    ... )
    """
    options = dict(locals())
    if skip_prep:
        return None
    roots = as_list(data_folder, "data_folder")
    files = {folder: find_audio(folder) for folder in map(_wav_folder, roots)}
    lists = [
        fetch_file(source, save_folder)
        for source in as_list(verification_files, "verification_file")
    ]
    parts = parts_of(files)
    state, done = up_to_date(options, lists, parts)
    if done:
        return done
    tested = set()
    for path in lists:
        tested |= _speakers(path, roots, parts, trials_of_other_corpus)
    kept_out = {p[0] for p in parts.values() if spelling(p[0]) in tested}
    parts = {path: p for path, p in parts.items() if p[0] not in kept_out}
    rows, left_out = judge(parts, "session", options)
    kept_out = len(kept_out)
    return write_splits(
        state, rows, left_out=left_out, trial_speakers_kept_out=kept_out
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


def _speakers(path, roots, parts, other_corpus):
    """The speakers of a trial list, in the spelling that they are compared in."""
    trials = read_trials(path)
    names = {*trials.enrol_ids, *trials.test_ids}
    try:
        found = locate(names, roots, path, trials.line_of, parts, other_corpus)
    except UserError as error:
        raise UserError(
            f"{error}. Its speakers must not be trained on; if all the "
            "others are of another corpus: --trials_of_other_corpus=True"
        ) from error
    speakers = {parts[file][0] for file in found.values()}
    others = map(spelling, names - set(found))
    return {spelling(speaker) for speaker in speakers} | {
        name.removeprefix("wav/").split("/")[0] for name in others
    }
