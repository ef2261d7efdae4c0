"""Crops of utterances, as they are or at another speed."""

import dataclasses
import functools
import math
import random

import soundfile
import torch
import torchaudio

from speechbrain_scl.data.manifest import Utterance
from speechbrain_scl.errors import UserError


@dataclasses.dataclass(frozen=True)
class UtteranceAtSpeed(Utterance):
    """An utterance to be played faster or slower; 1 plays it as it is."""

    speed: float


def copies_at_speeds(utterances, speeds):
    """Each utterance at each speed, whose voice is a speaker of its own.

    Played faster or slower, a voice has another pitch and other formants: it
    is another speaker, and there are more of them to tell apart (Yamamoto et
    al., "Speaker augmentation and bandwidth extension", Interspeech 2019).
    """
    good = isinstance(speeds, list) and all(
        isinstance(s, int | float) and 0.5 <= s <= 2 for s in speeds
    )
    if not good or not speeds or len(set(speeds)) < len(speeds):
        raise UserError(
            f"speeds={speeds!r}: a list of different factors from 0.5 to 2, "
            "such as [0.9, 1.0, 1.1]"
        )
    found = []
    for speed in speeds:
        mark = "" if speed == 1 else f"@{speed:g}"
        for u in utterances:
            named = {"ID": u.ID + mark, "spk_id": u.spk_id + mark}
            found.append(UtteranceAtSpeed(**{**vars(u), **named}, speed=speed))
    return found


def read_crop(wav, start, stop, length, draw=None, rate=None, speed=1.0):
    """``length`` samples of one utterance, float32, and no more of the file;
    one that is shorter is repeated until it fills them.

    ``draw`` seeds the random position: equal texts give equal crops, whatever
    loader worker reads them; None takes the middle. ``rate`` is what the file
    must have, Hz; at a ``speed`` of more than 1 the voice is faster and higher.
    """
    if speed != 1:
        more = math.ceil(length * speed) + 1
        crop = read_crop(wav, start, stop, more, draw, rate)
        return _resampler(round(rate * speed), rate)(crop)[:length]
    start, stop = int(start), int(stop)
    spare = max(stop - start - length, 0)
    first = start + (
        spare // 2 if draw is None else random.Random(draw).randint(0, spare)
    )
    wanted = min(length, stop - start)
    try:
        samples, found = soundfile.read(
            wav, wanted, first, dtype="float32", always_2d=True
        )
    except Exception as error:
        # Whatever the audio library raises, the user needs the file's name.
        raise UserError(f"{wav}: cannot be read ({error})") from error
    crop = torch.from_numpy(samples)
    crop = crop[:, 0] if crop.shape[1] == 1 else crop.mean(1)
    changed = ""
    if rate not in (None, found):
        changed = f"{found} Hz instead of {rate}"
    elif len(crop) < wanted:
        changed = "shorter"
    elif not crop.any() and not soundfile.read(wav)[0].any():
        changed = "silent"
    if changed:
        raise UserError(
            f"{wav}: it has changed since the preparation ({changed}); train "
            "without --skip_prep to prepare anew"
        )
    # NaN and infinity outlive a sum, which costs a tenth of looking at each.
    if not len(crop) or not math.isfinite(crop.sum()):
        raise UserError(
            f"{wav}: samples {first} to {first + length} are empty or not "
            'finite; prepare the data with check_audio: "full"'
        )
    if len(crop) < length:
        crop = crop.repeat(-(-length // len(crop)))[:length]
    return crop


@functools.cache
def _resampler(from_rate, to_rate):
    return torchaudio.transforms.Resample(from_rate, to_rate)
