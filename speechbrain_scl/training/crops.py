"""Reading crops of utterances for training."""

import dataclasses
import functools
import math
import random

import torchaudio

from speechbrain.dataio import audio_io
from speechbrain_scl.data.manifest import Utterance
from speechbrain_scl.errors import UserError


@dataclasses.dataclass(frozen=True)
class UtteranceAtSpeed(Utterance):
    """An utterance to be played faster or slower.

    Arguments
    ---------
    speed : float
        1 plays it as it is.
    """

    speed: float


def copies_at_speeds(utterances, speeds):
    """Each utterance at each speed, whose voice is a speaker of its own.

    Played faster or slower, a voice has another pitch and other formants: it
    is another speaker, and there are more of them to tell apart (Yamamoto et
    al., "Speaker augmentation and bandwidth extension", Interspeech 2019).

    Arguments
    ---------
    utterances : list of Utterance
        Of the corpus.
    speeds : list of float
        Factors between 0.5 and 2, each once; 1 is the corpus as it is.

    Returns
    -------
    list of UtteranceAtSpeed
        At other speeds than 1, ID and speaker bear the speed.

    Raises
    ------
    UserError
        Speeds outside of that.

    Example
    -------
    >>> ann = Utterance("a", 1.0, "a.wav", 0, 16000, "ann")
    >>> [(u.ID, u.spk_id, u.speed) for u in copies_at_speeds([ann], [1.0, 0.9])]
    [('a', 'ann', 1.0), ('a@0.9', 'ann@0.9', 0.9)]
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


def read_crop_at_speed(wav, start, stop, length, draw, speed, rate):
    """As ``read_crop``, faster or slower.

    Arguments
    ---------
    wav, start, stop, length, draw
        Those of ``read_crop``.
    speed : float
        More than 1 is faster, and the voice higher.
    rate : int
        Of the file, Hz.

    Returns
    -------
    torch.Tensor
        [length], float32.

    Example
    -------
    >>> import torch
    >>> path = str(getfixture("tmp_path") / "tone.wav")
    >>> tone = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)
    >>> audio_io.save(path, tone[None], 16000)
    >>> crop = read_crop_at_speed(path, 0, 16000, 8000, "x", 1.1, 16000)
    >>> crop.shape, crop.diff().sign().diff().ne(0).sum().item() // 2
    (torch.Size([8000]), 550)
    """
    if speed == 1:
        return read_crop(wav, start, stop, length, draw, rate)
    longer = math.ceil(length * speed) + 1
    crop = read_crop(wav, start, stop, longer, draw, rate)
    return _resampler(round(rate * speed), rate)(crop)[:length]


@functools.cache
def _resampler(from_rate, to_rate):
    return torchaudio.transforms.Resample(from_rate, to_rate)


def read_crop(wav, start, stop, length, draw=None, rate=None):
    """Reads a crop of ``length`` samples of one utterance, and no more of it.

    An utterance shorter than the crop is repeated until it fills it.

    Arguments
    ---------
    wav : str
        The file, mono.
    start, stop : int
        The utterance within the file, in samples.
    length : int
        Samples of the crop.
    draw : str or None
        Names the random position of the crop: equal names give equal crops,
        whatever loader worker reads them. None takes the middle.
    rate : int or None
        That the file must have, Hz; None takes any.

    Returns
    -------
    torch.Tensor
        [length], float32.

    Raises
    ------
    UserError
        The file cannot be read or is not as the preparation found it: of
        another rate, shorter, silent; or what was read is not finite.

    Example
    -------
    >>> import torch
    >>> path = getfixture("tmp_path") / "ramp.wav"
    >>> audio_io.save(path, torch.linspace(0, 0.9, 100)[None], 16000)
    >>> crop = read_crop(str(path), 0, 100, 40, draw="epoch 1, ramp")
    >>> crop.shape
    torch.Size([40])
    >>> read_crop(str(path), 0, 100, 250).shape
    torch.Size([250])
    """
    start, stop = int(start), int(stop)
    spare = max(stop - start - length, 0)
    offset = (
        spare // 2 if draw is None else random.Random(draw).randint(0, spare)
    )
    try:
        signal, found = audio_io.load(
            wav,
            frame_offset=start + offset,
            num_frames=min(length, stop - start),
        )
    except Exception as error:
        # Whatever the audio library raises, the user needs the file's name.
        raise UserError(f"{wav}: cannot be read ({error})") from error
    signal = signal[0] if len(signal) == 1 else signal.mean(0)
    changed = ""
    if rate not in (None, found):
        changed = f"{found} Hz instead of {rate}"
    elif signal.numel() < min(length, stop - start):
        changed = "shorter"
    elif not signal.any() and not audio_io.load(wav)[0].any():
        changed = "silent"
    if changed:
        raise UserError(
            f"{wav}: it has changed since the preparation ({changed}); train "
            "without --skip_prep to prepare anew"
        )
    # NaN and infinity outlive a sum, which is a tenth of the work of looking
    # at each sample.
    if signal.numel() == 0 or not math.isfinite(signal.sum()):
        raise UserError(
            f"{wav}: samples {start + offset} to {start + offset + length} are "
            'empty or not finite; prepare the data with check_audio: "full"'
        )
    if signal.numel() < length:
        signal = signal.repeat(-(-length // signal.numel()))[:length]
    return signal
