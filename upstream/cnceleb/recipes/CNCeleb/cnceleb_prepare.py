#!/usr/bin/python3
"""
Data preparation of CN-Celeb.

Download: https://www.openslr.org/82/

Both archives, cn-celeb_v2.tar.gz and cn-celeb2_v2.tar.gz, are unpacked into
one folder. It then holds, with lists that name .wav files:

    CN-Celeb_flac/data/<speaker>/<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/dev/dev.lst                the training speakers
    CN-Celeb_flac/eval/enroll/<speaker>-enroll.flac
    CN-Celeb_flac/eval/test/<speaker>-<genre>-<session>-<utterance>.flac
    CN-Celeb_flac/eval/lists/enroll.map      model, utterances below data/
    CN-Celeb_flac/eval/lists/enroll.lst      model, its recording in eval/
    CN-Celeb_flac/eval/lists/trials.lst      model, test utterance, 1 or 0
    CN-Celeb2_flac/data/<speaker>/<genre>-<session>-<utterance>.flac

To prepare it, run the following command:
> python cnceleb_prepare.py /path/to/CNCeleb results/prepared

Authors
 * YOUR NAME 2026
"""

import argparse
import csv
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor

import torch

from speechbrain.dataio import audio_io
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)
SAMPLERATE = 16000
FILES = ("train.csv", "dev.csv", "enrol_avg.csv", "enrol_concat.csv")
FILES += ("test.csv", "trials.txt")


def prepare_cnceleb(
    data_folder,
    save_folder,
    split_ratio=(90, 10),
    joined_duration=5.0,
    min_duration=2.0,
    seed=1986,
):
    """
    Prepares the csv files of CN-Celeb and its trials in VoxCeleb's format.

    The training speakers are those of dev.lst, and all of CN-Celeb2 where its
    folder is there. The utterances of each are split into train and dev. The
    enrolment models have several utterances each in enrol_avg.csv, whose IDs
    are "model/utterance", and one joined recording in enrol_concat.csv.
    Nothing is done where the files are there from a run with the same options.

    Arguments
    ---------
    data_folder : str
        The folder with CN-Celeb_flac and CN-Celeb2_flac.
    save_folder : str
        The folder for the csv files, the trials and the joined utterances.
    split_ratio : list
        The percentages of train and dev.
    joined_duration : float
        The seconds that a training utterance should have. Shorter ones of one
        speaker and genre are joined, and written as a file.
    min_duration : float
        The seconds that it must have: shorter ones are left out.
    seed : int
        The seed of the split.

    Example
    -------
    >>> prepare_cnceleb("/path/to/CNCeleb", "prepared")  # doctest: +SKIP
    """
    options = {
        "data_folder": os.path.abspath(data_folder),
        "split_ratio": list(split_ratio),
        "joined_duration": joined_duration,
        "min_duration": min_duration,
        "seed": seed,
    }
    os.makedirs(save_folder, exist_ok=True)
    record = os.path.join(save_folder, "cnceleb_prepare.json")
    there = os.listdir(save_folder)
    if os.path.isfile(record) and all(name in there for name in FILES):
        with open(record, encoding="utf-8") as file:
            if json.load(file) == options:
                logger.info("%s: prepared in an earlier run", save_folder)
                return

    first = os.path.join(options["data_folder"], "CN-Celeb_flac")
    lists = os.path.join(first, "eval", "lists")
    trials = read_list(os.path.join(lists, "trials.lst"))
    rows = training_rows(
        options["data_folder"], {model.split("-")[0] for model, *_ in trials}
    )
    rows = join_short(
        rows,
        joined_duration,
        os.path.abspath(os.path.join(save_folder, "joined")),
    )
    long = [row for row in rows if row["duration"] >= min_duration]
    logger.info("%d utterances are too short", len(rows) - len(long))
    train, dev = split_utterances(long, split_ratio, seed)

    averaged = [
        (os.path.join(first, "data", name), model, f"{model}/{stem(name)}")
        for model, *names in read_list(os.path.join(lists, "enroll.map"))
        for name in names
    ]
    joined = [
        (os.path.join(first, "eval", name), model, model)
        for model, name in read_list(os.path.join(lists, "enroll.lst"))
    ]
    tested = [
        (os.path.join(first, "eval", name), stem(name), stem(name))
        for name in sorted({name for _, name, _ in trials})
    ]
    tables = [train, dev, *map(rows_of, (averaged, joined, tested))]
    for name, table in zip(FILES, tables):
        write_csv(os.path.join(save_folder, name), table)
    path = os.path.join(save_folder, "trials.txt")
    with open(path, "w", encoding="utf-8") as file:
        for model, name, label in trials:
            file.write(f"{label} {model} {stem(name)}\n")
    with open(record, "w", encoding="utf-8") as file:
        json.dump(options, file)


def read_list(path):
    """Reads the words of each line of a list that has any."""
    with open(path, encoding="utf-8") as file:
        return [line.split() for line in file if line.strip()]


def stem(path):
    """Cuts folder and extension off a path."""
    return os.path.splitext(os.path.basename(path))[0]


def rows_of(files):
    """
    Makes the rows of audio files.

    Arguments
    ---------
    files : list of tuple
        The path of each file (whose extension is .flac, whatever the list
        says), its speaker or enrolment model, and the ID of its row.

    Returns
    -------
    rows : list of dict
        One row for each file.
    """

    def row_of(file):
        path, speaker, name = file
        path = os.path.splitext(path)[0] + ".flac"
        info = audio_io.info(path)
        if info.sample_rate != SAMPLERATE:
            raise ValueError(f"{path}: {info.sample_rate} Hz, not {SAMPLERATE}")
        return {
            "ID": name,
            "duration": info.frames / SAMPLERATE,
            "wav": path,
            "start": 0,
            "stop": info.frames,
            "spk_id": speaker,
        }

    # Threads, as reading headers is waiting for the disk
    with ThreadPoolExecutor() as pool:
        return list(pool.map(row_of, files))


def training_rows(data_folder, test_speakers):
    """
    Finds the utterances of the training speakers.

    Arguments
    ---------
    data_folder : str
        The folder with CN-Celeb_flac and CN-Celeb2_flac.
    test_speakers : set of str
        The speakers of the trials, who must not be trained on.

    Returns
    -------
    rows : list of dict
        The rows, sorted by speaker and file.
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
    both = sorted(test_speakers & set(folders))
    if both:
        raise ValueError(f"{data_folder}: {both} are trained on and tested")
    logger.info("%d training speakers", len(folders))
    return rows_of(
        [
            (os.path.join(folder, name), speaker, f"{speaker}--{stem(name)}")
            for speaker, folder in sorted(folders.items())
            for name in sorted(os.listdir(folder))
            if name.endswith(".flac")
        ]
    )


def join_short(rows, joined_duration, folder):
    """
    Joins short utterances of one speaker and genre.

    Arguments
    ---------
    rows : list of dict
        The rows of the corpus.
    joined_duration : float
        The seconds from which on an utterance stays as it is.
    folder : str
        The folder for the joined utterances.

    Returns
    -------
    rows : list of dict
        The rows of long, joined, and single short utterances.
    """
    kept, groups, growing, full = [], [], {}, {}
    for row in rows:
        if row["duration"] >= joined_duration:
            kept.append(row)
            continue
        key = row["spk_id"], stem(row["wav"]).split("-")[0]
        growing.setdefault(key, []).append(row)
        if sum(part["duration"] for part in growing[key]) >= joined_duration:
            full[key] = growing.pop(key)
            groups.append(full[key])
    for key, rest in growing.items():
        if key in full:  # What is left goes to the last group.
            full[key].extend(rest)
        else:
            groups.append(rest)

    def join(group):
        names = [stem(part["wav"]) for part in group]
        speaker = group[0]["spk_id"]
        path = os.path.join(folder, speaker, names[0] + "-joined.flac")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        signal = torch.cat([audio_io.load(x["wav"])[0] for x in group], 1)
        audio_io.save(path, signal, SAMPLERATE, subtype="PCM_16")
        return path, speaker, f"{speaker}--{names[0]}-joined"

    several = [group for group in groups if len(group) > 1]
    kept.extend(group[0] for group in groups if len(group) == 1)
    with ThreadPoolExecutor() as pool:
        files = list(pool.map(join, several))
    logger.info("%d utterances are joined ones", len(files))
    return kept + rows_of(files)


def split_utterances(rows, split_ratio, seed):
    """
    Splits the utterances of each speaker.

    Arguments
    ---------
    rows : list of dict
        The rows of all utterances.
    split_ratio : list
        The percentages of train and dev.
    seed : int
        The seed of the draw.

    Returns
    -------
    train, dev : list of dict
        The rows of each part; every speaker is in train.
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
    """Writes a csv file of one row or more."""
    if not rows:
        raise ValueError(
            f"{path}: there is no utterance for it; see data_folder, "
            "split_ratio and min_duration"
        )
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    logger.info("%s: %d utterances", path, len(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prepares CN-Celeb.")
    parser.add_argument("data_folder")
    parser.add_argument("save_folder")
    parser.add_argument("--split_ratio", type=int, nargs=2, default=[90, 10])
    parser.add_argument("--joined_duration", type=float, default=5.0)
    parser.add_argument("--min_duration", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1986)
    prepare_cnceleb(**vars(parser.parse_args()))
