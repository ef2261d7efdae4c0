"""The mini corpus in TidyVoice's layout.

    python -m demo.mini data/mini
    python -m demo.mini_tidyvoice data/mini data/mini_tidyvoice

So that the recipe of TidyVoice runs, in miniature, on a machine without it: each
voice speaks two languages; TidyVoiceX_Train and TidyVoiceX_Dev, a trial list of
targets and impostors in the same and in other languages, and an evaluation whose
files lie directly below TidyVoiceX_eval.
"""

import os
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np

from demo.mini_cnceleb import read_voices, two_folders
from speechbrain_scl.errors import user_errors_in_one_line
from speechbrain_scl.files import atomic_folder

TRIALS_PER_KIND = 60


def make_mini_tidyvoice(mini_folder, folder):
    """Writes the three folders and their lists."""
    voices = read_voices(mini_folder)
    rng = np.random.default_rng(0)
    with atomic_folder(folder) as aside:
        for split, name in (("train", "Train"), ("test", "Dev")):
            for rows in voices[split].values():
                for row in rows:
                    target = Path(aside, f"TidyVoiceX_{name}", _place(row))
                    _copy(mini_folder, row, target)
        rows = [row for found in voices["test"].values() for row in found]
        lines = [
            f"{label} {_place(a)} {_place(b)}\n"
            for label, a, b in _trials(rng, rows)
        ]
        Path(aside, "TidyVoiceX_Dev.txt").write_text("".join(lines))
        # Names that tell nothing, of half of the speakers in each list
        flat = {row["path"]: f"eval{i:04d}.wav" for i, row in enumerate(rows)}
        for row in rows:
            target = Path(aside, "TidyVoiceX_eval", flat[row["path"]])
            _copy(mini_folder, row, target)
        speakers = sorted(voices["test"])
        for number in (1, 2):
            half = set(speakers[number - 1 :: 2])
            chosen = [row for row in rows if row["speaker"] in half]
            lines = [
                f"{label} {flat[a['path']]} {flat[b['path']]}\n"
                for label, a, b in _trials(rng, chosen)
            ]
            path = Path(aside, f"tidyvoice_eval{number}.txt")
            path.write_text("".join(lines))


def _place(row):
    name = os.path.basename(row["path"])
    return f"{row['speaker']}/{row['language']}/{row['session']}-{name}"


def _copy(mini_folder, row, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(mini_folder, "wav", row["path"]), target)


def _trials(rng, rows):
    """Label and two utterances: as many as there are of each kind, at most."""
    kinds = {}
    for a, b in combinations(rows, 2):
        label = int(a["speaker"] == b["speaker"])
        kind = label, a["language"] == b["language"]
        kinds.setdefault(kind, []).append((label, a, b))
    for _, found in sorted(kinds.items(), reverse=True):
        n = min(len(found), TRIALS_PER_KIND)
        for i in sorted(rng.choice(len(found), n, replace=False)):
            yield found[i]


if __name__ == "__main__":
    with user_errors_in_one_line():
        make_mini_tidyvoice(*two_folders(__doc__))
