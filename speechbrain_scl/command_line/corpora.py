"""The command that makes a corpus of anybody's recordings."""

import os
import shlex

from speechbrain_scl.data.custom import import_corpus
from speechbrain_scl.values import FEWEST_TEST_SPEAKERS


def import_recordings(args):
    """Arranges, and says what to do next."""
    counts = import_corpus(
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
        + f"\n{next_commands(counts, args.corpus)}"
    )


def next_commands(counts, folder):
    """What to expect of training on that many speakers, and how to.

    Arguments
    ---------
    counts : dict
        As ``import_corpus`` returns it.
    folder : str
        The corpus.

    Returns
    -------
    str
        Lines of text and of commands, with the options that fit.

    Example
    -------
    >>> few = next_commands({"speakers": 20, "test_speakers": 10}, "data/own")
    >>> few.split(":")[0]
    '10 speakers are left for training'
    >>> "--valid_speakers=2 --speakers_per_batch=8" in few
    True
    """
    n_train = counts["speakers"] - counts["test_speakers"]
    said = f"{n_train} speakers are left for training: "
    if n_train < 20:
        said += (
            "too few to learn from scratch. Score the trials with a trained "
            "encoder, or fine-tune one (--pretrained)."
        )
    elif n_train < 500:
        said += "enough to see learning, not for a useful system."
    else:
        said += "train, and compare with a trained encoder all the same."
    if counts["test_speakers"] < FEWEST_TEST_SPEAKERS:
        said += (
            f"\n{counts['test_speakers']} test speakers show that scoring "
            "works, not how good it is: an interval takes "
            f"{FEWEST_TEST_SPEAKERS} (--test-speakers, or more recordings)."
        )
    place = os.path.abspath(folder)
    own = (
        f" \\\n    --data_folder={shlex.quote(place)} "
        f"\\\n    --verification_file={shlex.quote(place + '/trials.txt')}"
    )
    said += "\n\nFrom recipes/VoxCeleb/SpeakerRec, a trained encoder:\n\n"
    said += (
        "python speaker_verification_cosine.py "
        "hparams/verification_ecapa.yaml \\\n"
        f"    --pretrain_path=speechbrain/spkrec-ecapa-voxceleb{own}\n"
    )
    if n_train < 4:
        return said + "\nFewer than four cannot be trained on at all."
    n_valid = min(max(n_train // 4, 2), 8)
    n_train -= n_valid
    return said + (
        "\nOne of your own:\n\n"
        "python train_speaker_embeddings.py ../../../hparams/ecapa_small.yaml"
        f"{own} \\\n    --augmentation=synthesised --out_n_neurons={n_train} "
        f"--valid_speakers={n_valid} --speakers_per_batch={min(n_train, 32)}\n"
        "python speaker_verification_cosine.py "
        f"../../../hparams/verification_small.yaml{own}"
    )
