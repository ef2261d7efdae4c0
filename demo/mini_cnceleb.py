"""The mini corpus's Mandarin voices in CN-Celeb's layout.

    python -m demo.mini data/mini
    python -m demo.mini_cnceleb data/mini data/mini_cnceleb

So that the recipe of CN-Celeb runs, in miniature, on a machine without it:
training speakers in CN-Celeb_flac and CN-Celeb2_flac, test speakers in eval/
with enrolment models of several utterances, sessions as genres. Its numbers
are not those of CN-Celeb: use --strict=False.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.files import atomic_folder, write_audio, write_json

GENRES = ("interview", "singing", "vlog")
ENROLLED = 2  # utterances of each enrolment model


def make_mini_cnceleb(mini_folder, folder, languages=("cmn",)):
    """Writes CN-Celeb_flac and CN-Celeb2_flac."""
    voices = read_voices(mini_folder, languages)
    with atomic_folder(folder) as aside:
        first, second = (
            Path(aside, "CN-Celeb_flac"),
            Path(aside, "CN-Celeb2_flac"),
        )
        write_json(os.path.join(aside, "corpus.json"), {"synthetic": True})
        dev = []
        for i, rows in enumerate(voices["train"].values()):
            # Every other one is CN-Celeb2's, as numbers from id10000 on.
            corpus, name = (
                (second, f"id{10000 + i}") if i % 2 else (first, f"id{i:05d}")
            )
            if corpus is first:
                dev.append(name)
            for row, utterance in zip(rows, _utterances(rows)):
                _write(mini_folder, row, corpus / "data" / name / utterance)
        (first / "dev").mkdir(parents=True)
        Path(first, "dev", "dev.lst").write_text("".join(f"{s}\n" for s in dev))
        _write_eval(mini_folder, voices["test"], first)


def read_voices(mini_folder, languages=None):
    """The mini corpus's utterances by split and speaker."""
    metadata = Path(mini_folder, "metadata.csv")
    if not metadata.is_file():
        raise UserError(
            f"{metadata}: not there; make the corpus with python -m demo.mini"
        )
    voices = {"train": {}, "test": {}}
    with open(metadata, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if languages is None or row["language"] in languages:
                found = voices[row["split"]].setdefault(row["speaker"], [])
                found.append(row)
    if len(voices["test"]) < 2:
        raise UserError(
            f"{mini_folder}: {len(voices['test'])} test speaker(s) of "
            f"{languages or 'any language'}; at least 2 are needed"
        )
    return voices


def _write_eval(mini_folder, voices, root):
    tests, maps, recordings = [], [], []
    for i, rows in enumerate(voices.values()):
        name = f"id{800 + i:05d}"
        utterances = _utterances(rows)
        enrolled = []
        for row, utterance in zip(rows[:ENROLLED], utterances):
            _write(mini_folder, row, root / "data" / name / utterance)
            enrolled.append(_read(mini_folder, row))
        audio = np.concatenate(enrolled)
        _save(root / "eval" / "enroll" / f"{name}-enroll", audio)
        named = " ".join(f"{name}/{u}.wav" for u in utterances[:ENROLLED])
        maps.append(f"{name}-enroll {named}\n")
        recordings.append(f"{name}-enroll enroll/{name}-enroll.wav\n")
        for row, utterance in zip(rows[ENROLLED:], utterances[ENROLLED:]):
            test = f"{name}-{utterance}"
            _write(mini_folder, row, root / "eval" / "test" / test)
            tests.append(f"test/{test}.wav")
    lists = root / "eval" / "lists"
    lists.mkdir(parents=True)
    (lists / "enroll.map").write_text("".join(maps))
    (lists / "enroll.lst").write_text("".join(recordings))
    (lists / "test.lst").write_text("".join(f"{test}\n" for test in tests))
    models = [line.split()[0] for line in maps]
    (lists / "trials.lst").write_text(
        "".join(
            f"{model} {test} {int(model[:7] == test[5:12])}\n"
            for model in models
            for test in tests
        )
    )


def _utterances(rows):
    """<genre>-<session>-<utterance> for each row."""
    sessions = sorted({row["session"] for row in rows})
    names = []
    for row in rows:
        session = sessions.index(row["session"])
        genre = GENRES[session % len(GENRES)]
        names.append(f"{genre}-{session + 1:02d}-{len(names) + 1:03d}")
    return names


def _read(mini_folder, row):
    path = os.path.join(mini_folder, "wav", row["path"])
    return soundfile.read(path, dtype="int16")[0]


def _write(mini_folder, row, target):
    _save(target, _read(mini_folder, row))


def _save(target, audio):
    target.parent.mkdir(parents=True, exist_ok=True)
    write_audio(target.with_suffix(".flac"), audio, 16000)


def two_folders(text):
    """The mini corpus and the folder to write, of a command line."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    parser.add_argument("mini", help="the mini corpus")
    parser.add_argument("folder", help="where to write")
    return vars(parser.parse_args()).values()


if __name__ == "__main__":
    with user_errors_in_one_line():
        make_mini_cnceleb(*two_folders(__doc__))
