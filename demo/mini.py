"""The mini corpus: many synthetic voices in four languages.

    python -m demo.mini data/mini

Speech of espeak-ng in the VoxCeleb layout, so that the recipes run on it with
nothing downloaded: disjoint training and test speakers, each speaking two
languages in three sessions with their own room and noise, a trial list within
and one across languages, and folders of noise and room responses. The same
seed gives the same files. It exercises a pipeline; it is no substitute for
people.
"""

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve, lfilter, resample
from tqdm import tqdm

from demo.espeak import Espeak
from speechbrain_scl.data.augmentation import noise, room
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.files import atomic_folder, write_audio, write_json

SAMPLE_RATE = 16000
SESSIONS = 3
# Two registers stand for the sexes; impostors are mostly of one register.
# Variants with random breath or flutter (f2, f3, f5, ...) are left out: they
# differ from run to run.
VARIANTS = {
    "low": "m1 m2 m3 m4 m5 m6 m7 m8 adam max robert quincy".split(),
    "high": "f1 f4 Annie Andrea belinda linda steph steph2 anika aunty".split(),
}
# As the conditions of a verification call them by default
_GENDER = {"low": "m", "high": "f"}
SENTENCES = json.loads(
    Path(__file__).with_name("sentences.json").read_text(encoding="utf-8")
)


class Voice(NamedTuple):
    """What makes a synthetic speaker."""

    name: str
    register: str  # low or high
    variant: str  # of espeak-ng
    languages: tuple  # the two spoken
    pitch: int  # espeak-ng's height and range of pitch, and words a minute
    spread: int
    rate: int
    warp: int  # per cent by which formants and pitch are shifted
    resonances: tuple  # (Hz, gain) of three that colour the voice


def make_mini_corpus(
    folder, n_train=40, n_test=16, utterances_per_language=2, seed=0
):
    """Synthesises the corpus, unless it is there already: wav/, noise/, rir/,
    metadata.csv and two trial lists, which appear when all is written. Each
    voice speaks ``utterances_per_language`` in each of the three sessions."""
    options = {
        "n_train": n_train,
        "n_test": n_test,
        "utterances_per_language": utterances_per_language,
        "seed": seed,
        "version": 1,
    }
    record = os.path.join(folder, "mini.json")
    if os.path.isfile(record):
        with open(record, encoding="utf-8") as file:
            done = json.load(file)
        if done["options"] == options:
            return done["summary"]
    if os.path.exists(folder) and os.listdir(folder):
        raise UserError(
            f"{folder}: it holds something else, or a mini corpus with other "
            "options; delete it or choose another folder"
        )
    if n_test < 4:
        raise UserError(f"n_test={n_test}: at least 4 test speakers")
    with atomic_folder(folder) as aside:
        # espeak-ng keeps a state: only a fresh process says the same again.
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            try:
                summary = pool.submit(_synthesise, aside, options).result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"{folder}: the process that synthesises was killed, "
                    "perhaps as memory did not suffice; nothing is left of "
                    "it, and the same command starts anew"
                ) from error
        write_json(
            os.path.join(aside, "mini.json"),
            {"options": options, "summary": summary},
        )
        # A model that is trained on it says so at every decision.
        write_json(os.path.join(aside, "corpus.json"), {"synthetic": True})
    return summary


def _synthesise(folder, options):
    rng = np.random.default_rng(options["seed"])
    espeak = Espeak()
    n_train, n_test = options["n_train"], options["n_test"]
    voices = [_draw_voice(rng, i) for i in range(n_train + n_test)]
    for kind in ("noise", "rir"):
        os.makedirs(os.path.join(folder, kind))
    for i in range(8):
        _write(f"{folder}/noise/noise{i}.wav", 0.3 * noise(rng, 4.0))
        _write(f"{folder}/rir/rir{i}.wav", room(rng))

    rows, samples = [], 0
    for i, voice in enumerate(tqdm(voices, desc="Synthesising voices")):
        for session in range(SESSIONS):
            walls, noise_db = room(rng), rng.uniform(10, 25)
            tilt = rng.uniform(-0.4, 0.4)
            for language in voice.languages:
                texts = rng.choice(
                    SENTENCES[language],
                    options["utterances_per_language"],
                    replace=False,
                )
                for k, text in enumerate(texts):
                    clean = _say(espeak, voice, language, text)
                    signal = _record(rng, clean, walls, noise_db, tilt)
                    path = f"{voice.name}/s{session}/{language}-{k}.wav"
                    target = f"{folder}/wav/{path}"
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    _write(target, signal)
                    samples += len(signal)
                    rows.append(
                        {
                            "path": path,
                            "speaker": voice.name,
                            "split": "train" if i < n_train else "test",
                            "session": f"s{session}",
                            "language": language,
                            "register": voice.register,
                            "gender": _GENDER[voice.register],
                        }
                    )
    columns = list(rows[0])
    write_csv(f"{folder}/metadata.csv", columns, map(dict.values, rows))
    test = [row for row in rows if row["split"] == "test"]
    for name, across in (("same", False), ("cross", True)):
        with open(f"{folder}/trials-{name}-language.txt", "w") as file:
            file.writelines(_trials(rng, test, across))
    return {
        "train_speakers": n_train,
        "test_speakers": n_test,
        "utterances": len(rows),
        "minutes": round(samples / SAMPLE_RATE / 60, 1),
    }


def _draw_voice(rng, number):
    register = ("low", "high")[number % 2]
    names = list(SENTENCES)
    return Voice(
        name=f"{register[0]}{number:03d}",
        register=register,
        variant=str(rng.choice(VARIANTS[register])),
        languages=tuple(
            names[i] for i in rng.choice(len(names), 2, replace=False)
        ),
        pitch=int(rng.integers(25, 70)),
        spread=int(rng.integers(30, 70)),
        rate=int(rng.integers(140, 195)),
        warp=int(rng.integers(-9, 10)),
        resonances=tuple(
            (float(f * rng.uniform(0.8, 1.25)), float(rng.uniform(0.0, 0.6)))
            for f in (600, 1600, 3200)
        ),
    )


def _say(espeak, voice, language, text):
    speech = espeak.speak(
        text, language, voice.variant, voice.rate, voice.pitch, voice.spread
    )
    # Playing faster shifts formants and pitch up together.
    ratio = SAMPLE_RATE / espeak.sample_rate / (1 + voice.warp / 100)
    speech = resample(speech, int(len(speech) * ratio))
    for frequency, gain in voice.resonances:
        radius, angle = 0.95, 2 * np.pi * frequency / SAMPLE_RATE
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        speech = speech + gain * lfilter([1 - radius], poles, speech)
    return speech


def _record(rng, clean, walls, noise_db, tilt):
    """The clean voice in a room, through a channel, with noise."""
    signal = fftconvolve(clean, walls)[: len(clean)]
    signal = lfilter([1.0, tilt], [1.0], signal)
    hiss = noise(rng, len(signal) / SAMPLE_RATE)[: len(signal)]
    hiss = np.pad(hiss, (0, len(signal) - len(hiss)))
    level = signal.std() / hiss.std() * 10 ** (-noise_db / 20)
    signal = signal + level * hiss
    return 0.5 * signal / np.abs(signal).max()


def _write(path, signal):
    write_audio(path, signal, SAMPLE_RATE)


def _trials(rng, rows, across, n_per_speaker=40):
    """Pairs from different sessions, in one language or across two."""

    def fits(a, b):
        return a["session"] != b["session"] and (
            (a["language"] != b["language"]) == across
        )

    lines = set()
    for speaker in sorted({row["speaker"] for row in rows}):
        own = [row for row in rows if row["speaker"] == speaker]
        others = [row for row in rows if row["speaker"] != speaker]
        alike = [r for r in others if r["register"] == own[0]["register"]]
        targets = [(a, b) for a in own for b in own if fits(a, b)]
        impostors = [(a, b) for a in own for b in alike if fits(a, b)]
        mixed = [(a, b) for a in own for b in others if fits(a, b)]
        for label, pairs, share in (
            (1, targets, 1.0),
            (0, impostors, 0.8),
            (0, mixed, 0.2),
        ):
            n = min(int(share * n_per_speaker), len(pairs))
            for i in rng.choice(len(pairs), n, replace=False):
                a, b = pairs[i]
                lines.add(f"{label} {a['path']} {b['path']}\n")
    return sorted(lines, reverse=True)


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--n-train", type=int, default=40)
    parser.add_argument("--n-test", type=int, default=16)
    parser.add_argument("--utterances-per-language", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    summary = make_mini_corpus(**vars(parser.parse_args(arguments)))
    counts = ", ".join(f"{n} {what}" for what, n in summary.items())
    print(f"Mini corpus: {counts.replace('_', ' ')}")


if __name__ == "__main__":
    with user_errors_in_one_line():
        main(sys.argv[1:])
