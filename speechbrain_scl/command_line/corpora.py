"""The command that makes a corpus of anybody's recordings, or checks them."""

import hashlib
import os
import shlex
from collections import Counter, defaultdict

import numpy as np
from tqdm import tqdm

from speechbrain_scl.command_line.console import result
from speechbrain_scl.data.custom import (
    SAMPLE_RATE,
    import_corpus,
    part_of,
    read_whole,
)
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.data.sources import read_source
from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.errors import UserError
from speechbrain_scl.verifier import SpeakerVerifier
from speechbrain_scl.voices.speech import find_speech

# Of the import itself, with their defaults: --check prints a command with them
_OPTIONS = {"max_excluded": 0.05, "seed": 1986}
_OPTIONS |= dict.fromkeys(("trials", "test_speakers", "encoding", "without"))


def import_(args):
    """Arranges, and says what to do next; or checks alone."""
    if args.check:
        return _check(args)
    if args.model:
        raise UserError("--model: it serves --check")
    options = {name: getattr(args, name) for name in _OPTIONS}
    counts = import_corpus(args.recordings, args.corpus, **options)
    without = counts["trials_left_out"]
    said = (
        f"{args.corpus}: {counts['utterances']} utterances of "
        f"{counts['speakers']} speakers ({counts['converted']} converted, "
        f"{sum(counts['left_out'].values())} left out), "
        f"{counts['trials']} trials of {counts['test_speakers']} speakers"
        + (f", {without} trials of unusable files left out" if without else "")
    )
    commands = next_commands(counts, args.corpus).split("\n")
    result(args, said, *commands, corpus=args.corpus, **counts)


def _check(args):
    """Writes the suspects, and says how to go on without them."""
    verifier = SpeakerVerifier.load(args.model) if args.model else None
    spoken, left_out = read_source(args.recordings, args.encoding)
    rows = find_suspects(spoken, verifier)
    path = f"{os.path.normpath(args.corpus)}.suspects.csv"
    write_csv(path, ["name", "speaker", "reason", "value", "path"], rows)
    counts = Counter(row[2] for row in rows)
    said = f"{len(spoken)} utterances, {len({row[0] for row in rows})} of them "
    said += "suspect" + "".join(f", {n} {x}" for x, n in sorted(counts.items()))
    lines = [said, *(f"left out: {': '.join(file)}" for file in left_out)]
    lines.append("Go on with:")
    if rows:
        args.without = path
        lines[-1] = (
            f"Each is named in {path}: listen to them, delete the lines of "
            "those that are right, and go on without the rest:"
        )
    command = ["speechbrain-scl", "import", args.recordings, args.corpus]
    command += [
        f"--{name.replace('_', '-')}={getattr(args, name)}"
        for name, default in _OPTIONS.items()
        if getattr(args, name) != default
    ]
    facts = {"utterances": len(spoken), "suspects": counts, "list": path}
    facts["left_out"] = Counter(file.reason for file in left_out)
    result(args, *lines, shlex.join(command), **facts)


def find_suspects(spoken, verifier=None):
    """Utterances that may harm a corpus: name, speaker, reason, value, path.
    A verifier tells which utterances another speaker fits better."""
    of_path, of_audio, heard = defaultdict(list), defaultdict(list), {}
    for one in spoken:
        of_path[one.path].append(one)
    suspects = []
    for path in tqdm(of_path, desc="Checking audio", disable=None):
        read, harm, said = read_whole(path)
        for one in of_path[path]:
            if said:
                suspects.append((one, harm, said))
                continue
            part = part_of(read, one.span)
            if not part.any() or not find_speech(part, SAMPLE_RATE):
                seconds = f"{len(part) / SAMPLE_RATE:.1f} s"
                suspects.append((one, "no speech", seconds))
            else:
                digest = hashlib.sha256((part * 2**15).round().astype("<i4"))
                of_audio[digest.digest()].append(one)
                if verifier:
                    heard[one] = verifier.embed((part, SAMPLE_RATE))[0]
    for alike in of_audio.values():
        if len(speakers := {one.speaker for one in alike}) > 1:
            said = "of " + " and ".join(sorted(speakers))
            suspects += [(one, "identical audio", said) for one in alike]
    suspects += _strangers(heard)
    return [
        [one.name, one.speaker, reason, value, one.path]
        for one, reason, value in suspects
    ]


def _strangers(heard):
    """Those that are nearer another speaker's mean than the mean of their own
    speaker's other utterances."""
    counts = Counter(one.speaker for one in heard)
    totals = dict.fromkeys(sorted(counts), 0)
    for one, vector in heard.items():
        totals[one.speaker] = totals[one.speaker] + vector
    names, sums = [*totals], np.array([*totals.values()])
    for one, vector in heard.items():
        own = names.index(one.speaker)
        if counts[one.speaker] > 1:
            means = sums.copy()
            means[own] -= vector
            cosines = means @ vector / np.linalg.norm(means, axis=1)
            nearest = int(cosines.argmax())
            if nearest != own:
                said = f"{names[nearest]} fits better: {cosines[nearest]:.2f} "
                said += f"against {cosines[own]:.2f}"
                yield one, "another speaker", said


def next_commands(counts, folder):
    """What to expect of training on that many speakers, and how to."""
    n_train = counts["speakers"] - counts["test_speakers"]
    said = f"{n_train} speakers are left for training: "
    few = n_train < 20
    if few:
        said += (
            "too few to learn from scratch. Score the trials with a trained "
            "encoder, or fine-tune one (--pretrained: docs/variants.md)."
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
    place = shlex.quote(os.path.abspath(folder))
    own = f" --data_folder={place} --verification_file={place}/trials.txt"
    said += (
        "\n\nFrom recipes/VoxCeleb/SpeakerRec (of a clone, or made by "
        "`speechbrain-scl init .`), a trained encoder:\n\n"
        "python speaker_verification_cosine.py "
        "hparams/verification_ecapa_scl.yaml \\\n"
        f"    --pretrain_path=speechbrain/spkrec-ecapa-voxceleb{own}\n"
    )
    if n_train < 4:
        return said + "\nFewer than four cannot be trained on at all."
    n_valid = min(max(n_train // 4, 2), 8)
    n_train -= n_valid
    return said + (
        "\nOne of your own" + (", to see how it goes" if few else "") + ":\n\n"
        "python train_speaker_embeddings.py ../../../hparams/ecapa_small.yaml"
        f" \\\n   {own} \\\n"
        f"    --augmentation=synthesised --out_n_neurons={n_train} "
        f"--valid_speakers={n_valid} --speakers_per_batch={min(n_train, 32)}\n"
        "python speaker_verification_cosine.py "
        f"../../../hparams/verification_small.yaml \\\n   {own}"
    )
