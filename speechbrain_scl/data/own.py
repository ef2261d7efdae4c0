"""One's own recordings as a corpus that the recipes train and test on.

    python -m speechbrain_scl.data.own RECORDINGS data/own

RECORDINGS is a folder with one folder per speaker, a CSV file with the columns
path and speaker, or a Kaldi folder with wav.scp, utt2spk and perhaps segments.
The corpus gets the VoxCeleb layout: links to files that are 16 kHz and mono,
converted copies of the others; and a trial list, of speakers drawn for the
test or your own, whose speakers the recipe then keeps out of training.
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from speechbrain_scl.data.audio import Excluded
from speechbrain_scl.data.conversion import place
from speechbrain_scl.data.manifest import report_excluded
from speechbrain_scl.data.own_trials import draw_trials, read_trials, speaker_of
from speechbrain_scl.data.sources import read_source
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.files import atomic_folder, write_json
from speechbrain_scl.values import FEWEST_TEST_SPEAKERS


def make_own_corpus(
    recordings,
    folder,
    test_speakers=None,
    max_excluded=0.05,
    seed=1986,
    trials=None,
    encoding=None,
):
    """Arranges recordings in the VoxCeleb layout, with a trial list.

    Arguments
    ---------
    recordings : str
        A folder of speaker folders, a CSV file or a Kaldi folder, as
        ``corpora.sources.read_source`` takes it.
    folder : str
        The corpus to make; it must not exist.
    test_speakers : int or None
        How many speakers a drawn trial list gets; None takes a fifth, at least
        two.
    max_excluded : float
        Refuse when a larger share of the utterances cannot be used.
    seed : int
        Draws the test speakers and the trials.
    trials : str or None
        A trial list that takes the place of a drawn one. Its names are those
        of ``recordings``: Kaldi's utterance ids, the paths of a CSV file, or
        paths below the folder.
    encoding : str or None
        Of a CSV file or of Kaldi's files; None takes UTF-8, or what the file
        looks like.

    Returns
    -------
    dict
        Counts: speakers, utterances, converted, test_speakers, trials,
        trials_left_out, and left_out by reason. Also in the corpus's own.json.

    Raises
    ------
    UserError
        What is wrong with the recordings, with file and line, and the remedy.

    Example
    -------
    >>> import numpy as np, soundfile
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
    names = _names(read_source(recordings, encoding))
    listed = read_trials(trials, names) if trials else None
    # Beside the corpus, so that it stays where the corpus is refused
    excluded_list = f"{os.path.normpath(folder)}.excluded.csv"
    with atomic_folder(folder) as aside:
        placed = _place_all(names, aside)
        left_out = report_excluded(
            excluded_list,
            [p for p in placed.values() if isinstance(p, Excluded)],
            len(placed),
            max_excluded,
        )
        os.replace(excluded_list, os.path.join(aside, "excluded.csv"))
        kept = {n for n, p in placed.items() if not isinstance(p, Excluded)}
        if listed is None:
            pairs = draw_trials(kept, test_speakers, seed)
        else:
            pairs = [pair for pair in listed if kept.issuperset(pair[1:])]
        Path(aside, "trials.txt").write_text(
            "".join(f"{' '.join(pair)}\n" for pair in pairs), encoding="utf-8"
        )
        counts = {
            "speakers": len(set(map(speaker_of, kept))),
            "utterances": len(kept),
            "converted": list(placed.values()).count("converted"),
            "test_speakers": len(
                {speaker_of(name) for pair in pairs for name in pair[1:]}
            ),
            "trials": len(pairs),
            "trials_left_out": len(listed or pairs) - len(pairs),
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


def _names(utterances):
    """speaker/session/utterance, without blanks -> Spoken."""
    names = {}
    for spoken in utterances:
        name = "/".join(
            # A trial list is separated by blanks, a path by slashes.
            "_".join(part.replace("/", "-").split())
            for part in (spoken.speaker, spoken.session, spoken.utterance)
        )
        if name in names:
            raise UserError(
                f"{spoken.path} and {names[name].path} would both be {name}: "
                "rename one"
            )
        names[name] = spoken
    return names


def _place_all(names, corpus):
    """Name -> "linked", "converted" or Excluded; each recording read once."""
    targets = {}
    for name, spoken in names.items():
        parts = targets.setdefault(spoken.path, {})
        parts[os.path.join(corpus, "wav", name)] = spoken.start, spoken.end
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        progress = tqdm(
            pool.map(place, targets, targets.values()),
            total=len(targets),
            desc="Arranging audio",
            dynamic_ncols=True,
        )
        placed = {t: how for found in progress for t, how in found.items()}
    return {name: placed[os.path.join(corpus, "wav", name)] for name in names}


def main():
    """Arranges, and says what to do next."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("recordings", help="a folder, a CSV file or a Kaldi folder")
    add("corpus", help="the folder to make")
    add("--trials", help="your own trial list, with the recordings' names")
    add("--test-speakers", type=int, help="default: a fifth to a third")
    add("--max-excluded", type=float, default=0.05, help="share of the files")
    add("--encoding", help="of the CSV file or of Kaldi's, such as cp1250")
    add("--seed", type=int, default=1986, help="draws speakers and trials")
    args = parser.parse_args()
    counts = make_own_corpus(
        args.recordings,
        args.corpus,
        args.test_speakers,
        args.max_excluded,
        args.seed,
        args.trials,
        args.encoding,
    )
    without = counts["trials_left_out"]
    print(
        f"{args.corpus}: {counts['utterances']} utterances of "
        f"{counts['speakers']} speakers ({counts['converted']} converted, "
        f"{sum(counts['left_out'].values())} left out), "
        f"{counts['trials']} trials of {counts['test_speakers']} speakers"
        + (f", {without} trials of unusable files left out" if without else "")
        + f"\n{advice(counts)}"
    )


if __name__ == "__main__":
    with user_errors_in_one_line():
        main()
