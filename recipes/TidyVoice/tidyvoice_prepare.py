"""Data preparation of TidyVoice (TidyVoiceX, Interspeech 2026).

Download: https://tidyvoice2026.github.io, with a key of Mozilla's data
collective. People who speak two languages or more:

    TidyVoiceX_Train/<speaker>/<language>/<utterance>.wav
    TidyVoiceX_Dev/<speaker>/<language>/<utterance>.wav
    TidyVoiceX_Dev.txt      1 or 0, and two utterances below TidyVoiceX_Dev
    TidyVoiceX_eval/<utterance>.wav
"""

import os

from speechbrain_scl.data.audio import find_audio
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.data.names import locate
from speechbrain_scl.data.splits import (
    judge,
    parts_of,
    refuse_tested,
    up_to_date,
    write_splits,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials


def prepare_tidyvoice(
    data_folder,
    save_folder,
    verification_file,
    valid_speakers=40,
    min_duration=1.0,
    check_audio="headers",
    max_excluded=0.05,
    seed=1986,
    skip_prep=False,
):
    """Writes train.csv, valid.csv, dev.csv, excluded.csv and prepare.json.

    Training and validation speakers are those of TidyVoiceX_Train; one who is
    in TidyVoiceX_Dev too is an error. dev.csv holds the language of each
    utterance of the trial list, for figures within and across languages.

    Arguments
    ---------
    data_folder : str
        Where the two folders are.
    save_folder : str
        Where the manifests are written.
    verification_file : str
        The trial list of TidyVoiceX_Dev.
    valid_speakers : int or list of str
        How many speakers to hold out, or which.
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
        reason, languages. None with ``skip_prep``.

    Example
    -------
    >>> prepare_tidyvoice(  # doctest: +SKIP
    ...     "/path/to/TidyVoice", "results/save", "TidyVoiceX_Dev.txt"
    ... )
    """
    options = dict(locals())
    if skip_prep:
        return None
    train, dev = (_need(data_folder, n) for n in ("Train", "Dev"))
    if not os.path.isfile(verification_file):
        raise UserError(f"{verification_file}: there is no such trial list")
    parts, tested = (parts_of({f: find_audio(f)}) for f in (train, dev))
    files = [*parts, *tested]
    state, done = up_to_date(options, [verification_file], files)
    if done:
        return done
    refuse_tested({p[0] for p in parts.values()}, os.listdir(dev), dev)
    trials = read_trials(verification_file)
    names = dict.fromkeys([*trials.enrol_ids, *trials.test_ids])
    found = locate(names, [dev], verification_file, trials.line_of, tested)
    write_csv(
        os.path.join(save_folder, "dev.csv"),
        ["path", "speaker", "language"],
        ([name, *tested[file][:2]] for name, file in found.items()),
    )
    rows, left_out = judge(parts, "language", options)
    languages = len({row.language for row in rows})
    return write_splits(state, rows, left_out=left_out, languages=languages)


def _need(folder, name):
    path = os.path.join(folder, f"TidyVoiceX_{name}")
    if not os.path.isdir(path):
        raise UserError(
            f"{path}: not there; data_folder must hold TidyVoiceX_Train and "
            "TidyVoiceX_Dev of https://tidyvoice2026.github.io"
        )
    return path
