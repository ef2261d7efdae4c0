"""One's own recordings as a corpus that the recipes train and test on.

    python -m speechbrain_scl.corpora.own RECORDINGS data/own

RECORDINGS is a folder with one folder per speaker, a CSV file with the columns
``path`` and ``speaker``, or a Kaldi folder with wav.scp and utt2spk. The
corpus gets the VoxCeleb layout: links to files that are 16 kHz and mono,
converted copies of the others; and a trial list of speakers drawn for the
test, whom the recipe then keeps out of training.
"""

import argparse
import csv
import os
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from speechbrain_scl.corpora.audio import (
    READABLE,
    SILENCE_PEAK,
    TO_CONVERT,
    Excluded,
    find_audio,
    to_convert,
)
from speechbrain_scl.corpora.manifest import report_excluded
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.files import folder_written_aside, write_json
from speechbrain_scl.values import FEWEST_TEST_SPEAKERS

SAMPLE_RATE = 16000
TARGETS_PER_SPEAKER = 50
# soundfile reads these too; what is converted may as well come in them.
ENDINGS = READABLE + TO_CONVERT + (".mp3", ".ogg", ".opus", ".aif", ".aiff")


def make_own_corpus(
    recordings, folder, test_speakers=None, max_excluded=0.05, seed=1986
):
    """Arranges recordings in the VoxCeleb layout and draws a trial list.

    Arguments
    ---------
    recordings : str
        A folder of speaker folders, a CSV file or a Kaldi folder.
    folder : str
        The corpus to make; it must not exist.
    test_speakers : int or None
        How many speakers the trial list gets; None takes a fifth, at least
        two.
    max_excluded : float
        Refuse when a larger share of the files cannot be used.
    seed : int
        Draws the test speakers and the trials.

    Returns
    -------
    dict
        Counts: speakers, utterances, converted, test_speakers, trials, and
        left_out by reason. Also in the corpus's own.json.

    Raises
    ------
    UserError
        What is wrong with the recordings, with file and line, and the remedy.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 22050)
    >>> for name in ("ann/1", "ann/2", "bob/1", "bob/2"):
    ...     path = folder / "in" / f"{name}.wav"
    ...     path.parent.mkdir(parents=True, exist_ok=True)
    ...     soundfile.write(path, noise, 22050)
    >>> counts = make_own_corpus(str(folder / "in"), str(folder / "own"))
    >>> counts["converted"], counts["trials"]
    (4, 4)
    """
    if os.path.exists(folder):
        raise UserError(f"{folder}: it exists; choose another, or delete it")
    files = _read_recordings(recordings)
    names = _names(files)
    with folder_written_aside(folder) as aside:
        with ThreadPoolExecutor() as pool:
            placed = list(
                tqdm(
                    pool.map(
                        lambda path: _place(path, aside, names[path]), names
                    ),
                    total=len(names),
                    desc="Arranging audio",
                    dynamic_ncols=True,
                )
            )
        excluded = [p for p in placed if isinstance(p, Excluded)]
        left_out = report_excluded(
            os.path.join(aside, "excluded.csv"),
            excluded,
            len(names),
            max_excluded,
        )
        unusable = {e.path for e in excluded}
        kept = {
            path: name for path, name in names.items() if path not in unusable
        }
        trials, tested = _draw_trials(kept.values(), test_speakers, seed)
        Path(aside, "trials.txt").write_text(trials, encoding="utf-8")
        counts = {
            "speakers": len({_speaker(name) for name in kept.values()}),
            "utterances": len(kept),
            "converted": placed.count("converted"),
            "test_speakers": tested,
            "trials": trials.count("\n"),
            "left_out": left_out,
        }
        write_json(os.path.join(aside, "own.json"), counts)
    return counts


def advice(counts):
    """What to expect of training on that many speakers, and what to do.

    Arguments
    ---------
    counts : dict
        As ``make_own_corpus`` returns it.

    Returns
    -------
    str

    Example
    -------
    >>> print(advice({"speakers": 20, "test_speakers": 10}))
    10 speakers are left for training: too few to learn from scratch. Score the trials with a trained encoder (--pretrain_path), or fine-tune one (--pretrained). Options that fit: --valid_speakers=2 --speakers_per_batch=8
    """
    n_train = counts["speakers"] - counts["test_speakers"]
    found = ""
    if counts["test_speakers"] < FEWEST_TEST_SPEAKERS:
        found = (
            f"{counts['test_speakers']} test speakers show that scoring works, "
            f"not how good it is: an interval takes {FEWEST_TEST_SPEAKERS} "
            "(--test-speakers, or more recordings).\n"
        )
    found += f"{n_train} speakers are left for training: "
    if n_train < 20:
        found += (
            "too few to learn from scratch. Score the trials with a trained "
            "encoder (--pretrain_path)"
        )
        if n_train < 4:
            return found + ": fewer than four cannot be trained on at all."
        found += ", or fine-tune one (--pretrained)."
    elif n_train < 500:
        found += (
            "enough to see learning, not for a useful system. Compare with a "
            "trained encoder (--pretrain_path) before you rely on it."
        )
    else:
        found += "train, and compare with a trained encoder all the same."
    n_valid = min(max(n_train // 4, 2), 8)
    if n_train - n_valid < 24:
        found += (
            f" Options that fit: --valid_speakers={n_valid} "
            f"--speakers_per_batch={n_train - n_valid}"
        )
    return found


def _read_recordings(source):
    """Audio file -> (speaker, place within the speaker)."""
    if os.path.isfile(source):
        return _read_csv(source)
    if not os.path.isdir(source):
        raise UserError(f"{source}: there is no such folder or CSV file")
    if os.path.isfile(os.path.join(source, "wav.scp")):
        return _read_kaldi(source)
    files = {}
    for path in find_audio(source, ENDINGS):
        speaker, *place = Path(path).relative_to(source).parts
        if not place:
            raise UserError(
                f"{path}: it lies beside the speakers' folders; move it into "
                "the folder of its speaker"
            )
        files[path] = speaker, place
    if not files:
        raise UserError(f"{source}: no audio below it")
    return files


def _read_csv(source):
    with open(source, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"path", "speaker"} - set(reader.fieldnames or [])
        if missing:
            raise UserError(
                f"{source}: column(s) {', '.join(sorted(missing))} missing"
            )
        return _listed(
            source,
            [(reader.line_num, row["path"], row["speaker"]) for row in reader],
        )


def _read_kaldi(source):
    paths = _read_pairs(os.path.join(source, "wav.scp"))
    speakers = _read_pairs(os.path.join(source, "utt2spk"))
    rows = []
    for utterance, (number, path) in paths.items():
        if path.endswith("|"):
            raise UserError(
                f"{source}/wav.scp, line {number}: a command is not run; name "
                f"the audio file of {utterance}"
            )
        if utterance not in speakers:
            raise UserError(
                f"{source}/wav.scp, line {number}: {utterance} is not in "
                "utt2spk"
            )
        rows.append((number, path, speakers[utterance][1]))
    return _listed(f"{source}/wav.scp", rows)


def _read_pairs(path):
    """Key -> (line number, value)."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such file")
    found = {}
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            key, _, value = line.strip().partition(" ")
            if key and not value.strip():
                raise UserError(f"{path}, line {number}: only one field")
            if key in found:
                raise UserError(f"{path}, line {number}: {key} comes twice")
            if key:
                found[key] = number, value.strip()
    return found


def _listed(source, rows):
    """(line, path, speaker) rows, paths relative to the list's folder."""
    files = {}
    for number, path, speaker in rows:
        where = f"{source}, line {number}"
        if not path or not speaker:
            raise UserError(f"{where}: a path and a speaker are needed")
        path = os.path.join(os.path.dirname(source), path)
        if not os.path.isfile(path):
            raise UserError(f"{where}: there is no file {path}")
        if path in files:
            raise UserError(f"{where}: {path} is listed before")
        files[path] = speaker, list(Path(path).parts[-2:])
    if not files:
        raise UserError(f"{source}: it lists nothing")
    return files


def _names(files):
    """Audio file -> speaker/session/utterance, without blanks."""
    names, taken = {}, {}
    for path, (speaker, place) in files.items():
        *session, utterance = place
        name = "/".join(
            # A trial list is separated by blanks, a path by slashes.
            "_".join(part.replace("/", "-").split())
            for part in (
                speaker,
                "-".join(session) or "0",
                os.path.splitext(utterance)[0],
            )
        )
        names[path] = name
        if path.lower().endswith(TO_CONVERT):
            continue  # left out; perhaps its converted copy lies beside it
        if name in taken:
            raise UserError(
                f"{path} and {taken[name]} would both be {name}: rename one"
            )
        taken[name] = path
    return names


def _place(path, corpus, name):
    """Links or converts one file; an Excluded where it is of no use."""
    if path.lower().endswith(TO_CONVERT):
        return to_convert(path, SAMPLE_RATE)
    try:
        with soundfile.SoundFile(path) as file:
            signal = file.read(dtype="float32", always_2d=True)
            rate, kind = file.samplerate, file.format
    except (soundfile.LibsndfileError, OSError) as error:
        return Excluded(path, "unreadable", str(error))
    if not np.isfinite(signal).all():
        return Excluded(path, "not finite", "samples are NaN or inf")
    if len(signal) == 0 or np.abs(signal).max() < SILENCE_PEAK:
        return Excluded(path, "silent", "nothing above -60 dB of full scale")
    target = Path(corpus, "wav", name + Path(path).suffix.lower())
    target.parent.mkdir(parents=True, exist_ok=True)
    fits = rate == SAMPLE_RATE and signal.shape[1] == 1
    if fits and kind in ("WAV", "WAVEX", "FLAC"):
        target.symlink_to(os.path.abspath(path))
        return "linked"
    common = gcd(rate, SAMPLE_RATE)
    signal = resample_poly(
        signal.mean(1), SAMPLE_RATE // common, rate // common
    )
    soundfile.write(target.with_suffix(".flac"), signal, SAMPLE_RATE)
    return "converted"


def _speaker(name):
    return name.split("/")[0]


def _draw_trials(names, test_speakers, seed):
    """The lines of a trial list, and how many speakers it has."""
    by_speaker = {}
    for name in sorted(names):
        by_speaker.setdefault(_speaker(name), []).append(name)
    able = [s for s, found in by_speaker.items() if len(found) > 1]
    # A fifth; of a small corpus up to a third, for an interval.
    n = len(by_speaker)
    wanted = test_speakers or max(2, n // 5, min(FEWEST_TEST_SPEAKERS, n // 3))
    if not 2 <= wanted <= len(able):
        raise UserError(
            f"a trial list of {wanted} speakers: {len(able)} of "
            f"{len(by_speaker)} have the two utterances that it takes, and 2 "
            "is the least; change --test-speakers or add recordings"
        )
    rng = random.Random(seed)
    tested = sorted(rng.sample(able, wanted))
    lines = []
    for speaker in tested:
        pairs = list(combinations(by_speaker[speaker], 2))
        pairs = rng.sample(pairs, min(len(pairs), TARGETS_PER_SPEAKER))
        others = [
            name for s in tested if s != speaker for name in by_speaker[s]
        ]
        impostors = set()
        for enrolment, test in pairs:
            lines.append(f"1 {enrolment} {test}\n")
            impostors.add((enrolment, rng.choice(others)))
        lines.extend(f"0 {a} {b}\n" for a, b in sorted(impostors))
    return "".join(lines), wanted


def main():
    """Arranges, and says what to do next."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("recordings", help="a folder, a CSV file or a Kaldi folder")
    add("corpus", help="the folder to make")
    add("--test-speakers", type=int, help="default: a fifth to a third")
    add("--max-excluded", type=float, default=0.05, help="share of the files")
    add("--seed", type=int, default=1986)
    args = parser.parse_args()
    counts = make_own_corpus(
        args.recordings,
        args.corpus,
        args.test_speakers,
        args.max_excluded,
        args.seed,
    )
    print(
        f"{args.corpus}: {counts['utterances']} utterances of "
        f"{counts['speakers']} speakers ({counts['converted']} converted, "
        f"{sum(counts['left_out'].values())} left out), "
        f"{counts['trials']} trials of {counts['test_speakers']} speakers\n"
        f"{advice(counts)}"
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
