"""
Data preparation of CN-Celeb.

Download: https://www.openslr.org/82/

The layout is that of the archives cn-celeb_v2.tar.gz and cn-celeb2_v2.tar.gz,
unpacked into one folder:

    CN-Celeb_flac/data/<speaker>/<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/dev/dev.lst                the training speakers
    CN-Celeb_flac/eval/enroll/<speaker>-enroll.flac
    CN-Celeb_flac/eval/test/<speaker>-<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/eval/lists/enroll.map      model, utterances below data/
    CN-Celeb_flac/eval/lists/enroll.lst      model, its recording in enroll/
    CN-Celeb_flac/eval/lists/trials.lst      model, test utterance, 1 or 0
    CN-Celeb2_flac/data/<speaker>/<genre>-<session>-<utterance>.flac

The lists name .wav files; on disk they are .flac.

Authors
 * YOUR NAME 2026
"""

import csv
import os
import random
from concurrent.futures import ThreadPoolExecutor

import torch
from tqdm import tqdm

from speechbrain.dataio import audio_io
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)
SAMPLERATE = 16000
# How a model is enrolled: the list, and where its files lie
ENROLMENT = {
    "enrol_avg": ("enroll.map", "data"),
    "enrol_concat": ("enroll.lst", "eval"),
}
SPLITS = ("train", "dev", *ENROLMENT, "test")


def prepare_cnceleb(
    data_folder,
    save_folder,
    splits=("train", "dev"),
    split_ratio=(90, 10),
    joined_duration=5.0,
    min_duration=3.0,
    seed=1986,
    skip_prep=False,
):
    """
    Prepares the csv files of CN-Celeb. A csv file that is there is kept.

    The training speakers are those of dev.lst, and all of CN-Celeb2 where its
    folder is there. Each speaker's utterances are split into train and dev.

    Arguments
    ---------
    data_folder : str
        The folder with CN-Celeb_flac and CN-Celeb2_flac.
    save_folder : str
        Where the csv files and the joined utterances are written.
    splits : list
        Of "train" and "dev" (both are written), "enrol_avg" (the utterances
        of each model in enroll.map, whose spk_id names the model),
        "enrol_concat" (its one recording in enroll.lst) and "test".
    split_ratio : list
        Percentages of the utterances for train and dev.
    joined_duration : float
        Shorter utterances of one speaker and genre are joined until they have
        so many seconds. A joined one is written as a file.
    min_duration : float
        Seconds. What is shorter, even joined, is left out.
    seed : int
        Of the split.
    skip_prep : bool
        If True, skip preparation.

    Returns
    -------
    None

    Example
    -------
    >>> prepare_cnceleb("/path/to/CNCeleb", "results/save")  # doctest: +SKIP
    """
    if skip_prep:
        return
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise ValueError(f"{sorted(unknown)}: the splits are {SPLITS}")
    os.makedirs(save_folder, exist_ok=True)
    first = os.path.join(data_folder, "CN-Celeb_flac")
    lists = os.path.join(first, "eval", "lists")

    def missing(split):
        path = os.path.join(save_folder, split + ".csv")
        return split in splits and not os.path.isfile(path)

    if missing("train") or missing("dev"):
        rows = joined(
            training_utterances(data_folder),
            joined_duration,
            min_duration,
            os.path.join(os.path.abspath(save_folder), "joined"),
        )
        train, dev = split_utterances(rows, split_ratio, seed)
        write_csv(os.path.join(save_folder, "train.csv"), train)
        write_csv(os.path.join(save_folder, "dev.csv"), dev)

    for split, (name, folder) in ENROLMENT.items():
        if not missing(split):
            continue
        paths, models = [], []
        for model, *utterances in read_list(os.path.join(lists, name)):
            for utterance in utterances:
                paths.append(flac(first, folder, utterance))
                models.append(model)
        path = os.path.join(save_folder, split + ".csv")
        write_csv(path, utterances_of(paths, models))

    if missing("test"):
        names = {
            line[1] for line in read_list(os.path.join(lists, "trials.lst"))
        }
        paths = [flac(first, "eval", name) for name in sorted(names)]
        speakers = [os.path.basename(path).split("-")[0] for path in paths]
        write_csv(
            os.path.join(save_folder, "test.csv"),
            utterances_of(paths, speakers),
        )


def read_list(path):
    """
    Reads a list of the corpus.

    Arguments
    ---------
    path : str
        The file.

    Returns
    -------
    lines : list of list of str
        The words of each line that has any.
    """
    with open(path, encoding="utf-8") as file:
        return [line.split() for line in file if line.strip()]


def flac(*parts):
    """
    The file of a name in the lists.

    Arguments
    ---------
    *parts : str
        Of its path; it ends in .wav.

    Returns
    -------
    path : str
        Absolute; it ends in .flac.
    """
    return os.path.splitext(os.path.abspath(os.path.join(*parts)))[0] + ".flac"


def training_utterances(data_folder):
    """
    Finds the utterances of the training speakers.

    Arguments
    ---------
    data_folder : str
        The folder with CN-Celeb_flac and CN-Celeb2_flac.

    Returns
    -------
    rows : list of dict
        Sorted by path.
    """
    first = os.path.join(data_folder, "CN-Celeb_flac")
    second = os.path.join(data_folder, "CN-Celeb2_flac", "data")
    folders = {
        speaker: os.path.join(first, "data", speaker)
        for (speaker,) in read_list(os.path.join(first, "dev", "dev.lst"))
    }
    if os.path.isdir(second):
        for speaker in os.listdir(second):
            folders[speaker] = os.path.join(second, speaker)
    trials = read_list(os.path.join(first, "eval", "lists", "trials.lst"))
    tested = {model.split("-")[0] for model, _, _ in trials}
    if tested & set(folders):
        raise ValueError(
            f"{data_folder}: the training speakers "
            f"{sorted(tested & set(folders))} are in trials.lst"
        )
    paths, speakers = [], []
    for speaker, folder in sorted(folders.items()):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".flac"):
                paths.append(os.path.join(os.path.abspath(folder), name))
                speakers.append(speaker)
    logger.info("%d training speakers", len(folders))
    return utterances_of(paths, speakers)


def utterances_of(paths, speakers):
    """
    Makes the rows of audio files.

    Arguments
    ---------
    paths : list of str
        The files, all of 16 kHz.
    speakers : list of str
        The speaker (or enrolment model) of each.

    Returns
    -------
    rows : list of dict
        One for each file.
    """

    def row_of(path, speaker):
        info = audio_io.info(path)
        if info.sample_rate != SAMPLERATE:
            raise ValueError(f"{path}: {info.sample_rate} Hz, not {SAMPLERATE}")
        name = os.path.splitext(os.path.basename(path))[0]
        return {
            "ID": f"{speaker}--{name}",
            "duration": info.frames / SAMPLERATE,
            "wav": path,
            "start": 0,
            "stop": info.frames,
            "spk_id": speaker,
        }

    # Threads, as reading headers is waiting for the disk
    with ThreadPoolExecutor() as pool:
        rows = pool.map(row_of, paths, speakers)
        return list(tqdm(rows, total=len(paths), dynamic_ncols=True))


def joined(rows, least, min_duration, folder):
    """
    Joins short utterances, and leaves out what is still short.

    Arguments
    ---------
    rows : list of dict
        Sorted by path.
    least : float
        Seconds that an utterance should have.
    min_duration : float
        Seconds that it must have.
    folder : str
        Where the joined ones are written.

    Returns
    -------
    rows : list of dict
        Of at least ``min_duration``.
    """
    kept = [row for row in rows if row["duration"] >= least]
    short = {}  # (speaker, genre) -> groups of rows
    for row in rows:
        if row["duration"] < least:
            genre = os.path.basename(row["wav"]).split("-")[0]
            groups = short.setdefault((row["spk_id"], genre), [[]])
            groups[-1].append(row)
            if sum(part["duration"] for part in groups[-1]) >= least:
                groups.append([])
    targets, speakers, left_out = {}, [], 0
    for (speaker, genre), groups in short.items():
        # What is left at the end belongs to the last complete one.
        rest = groups.pop()
        if groups:
            groups[-1].extend(rest)
        elif rest:
            groups.append(rest)
        for i, parts in enumerate(groups):
            seconds = sum(part["duration"] for part in parts)
            if seconds < min_duration:
                left_out += len(parts)
            elif len(parts) == 1:
                kept.extend(parts)
            else:
                path = os.path.join(folder, speaker, f"{genre}-joined-{i}.flac")
                targets[path] = [part["wav"] for part in parts]
                speakers.append(speaker)

    def write(path):
        parts = [audio_io.load(wav)[0] for wav in targets[path]]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        audio_io.save(path, torch.cat(parts, 1), SAMPLERATE, subtype="PCM_16")

    with ThreadPoolExecutor() as pool:
        list(tqdm(pool.map(write, targets), total=len(targets)))
    logger.info(
        "%d utterances; %d of them joined; %d left out, as their speaker has "
        "less than %s s of the genre",
        len(kept) + len(targets),
        len(targets),
        left_out,
        min_duration,
    )
    return kept + utterances_of(list(targets), speakers)


def split_utterances(rows, split_ratio, seed):
    """
    Splits the utterances of each speaker.

    Arguments
    ---------
    rows : list of dict
        All utterances.
    split_ratio : list
        Percentages for train and dev.
    seed : int
        Of the draw.

    Returns
    -------
    train, dev : list of dict
        Every speaker is in train.
    """
    by_speaker = {}
    for row in rows:
        by_speaker.setdefault(row["spk_id"], []).append(row)
    rng = random.Random(seed)
    train, dev = [], []
    for speaker in sorted(by_speaker):
        own = sorted(by_speaker[speaker], key=lambda row: row["ID"])
        rng.shuffle(own)
        n_dev = len(own) * split_ratio[1] // sum(split_ratio)
        dev.extend(own[:n_dev])
        train.extend(own[n_dev:])
    return train, dev


def write_csv(path, rows):
    """
    Writes a csv file.

    Arguments
    ---------
    path : str
        The file.
    rows : list of dict
        Its rows.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["ID", "duration", "wav", "start", "stop", "spk_id"]
        )
        writer.writeheader()
        writer.writerows(rows)
    logger.info("%s: %d utterances", path, len(rows))
