"""Data preparation of TidyVoice (TidyVoiceX, Interspeech 2026).

Download: https://tidyvoice2026.github.io, with a key of Mozilla's data
collective. People who speak two languages or more:

    TidyVoiceX_Train/<speaker>/<language>/<utterance>.wav
    TidyVoiceX_Dev/<speaker>/<language>/<utterance>.wav
    TidyVoiceX_Dev.txt      1 or 0, and two utterances below TidyVoiceX_Dev
    TidyVoiceX_eval/<utterance>.wav
"""

import dataclasses
import os

from speechbrain_scl.data.audio import Excluded, check_all, find_audio
from speechbrain_scl.data.manifest import Utterance, write_csv
from speechbrain_scl.data.names import below, locate
from speechbrain_scl.data.splits import (
    report_excluded,
    up_to_date,
    write_splits,
)
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.trials import read_trials

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class LanguageUtterance(Utterance):
    """A row with the language.

    Arguments
    ---------
    language : str
        The folder below the speaker's.
    """

    language: str


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

    Raises
    ------
    UserError
        What is wrong with the folders, the list or the files, and the remedy.

    Example
    -------
    >>> prepare_tidyvoice(  # doctest: +SKIP
    ...     "/path/to/TidyVoice", "results/save", "TidyVoiceX_Dev.txt"
    ... )
    """
    if skip_prep:
        return None
    train, dev = (_need(data_folder, n) for n in ("Train", "Dev"))
    train_files, dev_files = find_audio(train), find_audio(dev)
    if not os.path.isfile(verification_file):
        raise UserError(f"{verification_file}: there is no such trial list")
    options = {
        "data_folder": data_folder,
        "valid_speakers": valid_speakers,
        "min_duration": min_duration,
        "check_audio": check_audio,
        "max_excluded": max_excluded,
        "seed": seed,
    }
    files = train_files + dev_files
    state, done = up_to_date(save_folder, options, [verification_file], files)
    if done:
        return done

    placed = {path: below(path, [train]).split("/") for path in train_files}
    _refuse_dev_speakers({parts[0] for parts in placed.values()}, dev)
    _write_dev(os.path.join(save_folder, "dev.csv"), verification_file, dev)
    misplaced = [
        Excluded(path, "place", "not <speaker>/<language>/<utterance>")
        for path, parts in placed.items()
        if len(parts) != 3
    ]
    accepted, excluded = check_all(
        [path for path, parts in placed.items() if len(parts) == 3],
        sample_rate=SAMPLE_RATE,
        min_duration=min_duration,
        check=check_audio,
    )
    left_out = report_excluded(
        os.path.join(save_folder, "excluded.csv"),
        misplaced + excluded,
        len(train_files),
        max_excluded,
    )
    rows = [_utterance(file, *placed[file.path]) for file in accepted]
    return write_splits(
        save_folder,
        rows,
        valid_speakers,
        seed,
        state,
        {
            "left_out": left_out,
            "languages": len({row.language for row in rows}),
        },
    )


def _need(folder, name):
    path = os.path.join(folder, f"TidyVoiceX_{name}")
    if not os.path.isdir(path):
        raise UserError(
            f"{path}: not there; data_folder must hold TidyVoiceX_Train and "
            "TidyVoiceX_Dev of https://tidyvoice2026.github.io"
        )
    return path


def _refuse_dev_speakers(speakers, dev):
    tested = {name.casefold() for name in os.listdir(dev)}
    common = sorted(s for s in speakers if s.casefold() in tested)
    if common:
        raise UserError(
            f"{len(common)} speakers of TidyVoiceX_Train are in {dev} too; the "
            f"first is {common[0]}"
        )


def _write_dev(path, verification_file, dev):
    """The language of each utterance that the list names."""
    trials = read_trials(verification_file)
    names = dict.fromkeys([*trials.enrol_ids, *trials.test_ids])
    found = locate(names, [dev], verification_file, trials.line_of)
    write_csv(
        path,
        ["path", "speaker", "language"],
        (
            [name, *below(file, [dev]).split("/")[:2]]
            for name, file in found.items()
        ),
    )


def _utterance(file, speaker, language, name):
    return LanguageUtterance(
        ID="--".join([speaker, language, os.path.splitext(name)[0]]),
        duration=file.duration,
        wav=os.path.abspath(file.path),
        start=0,
        stop=file.samples,
        spk_id=speaker,
        language=language,
    )
