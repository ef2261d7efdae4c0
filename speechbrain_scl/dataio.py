"""Reading crops of utterances for training."""

import random

import torch

from speechbrain.dataio import audio_io
from speechbrain_scl.errors import UserError


def read_crop(wav, start, stop, length, draw=None):
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

    Returns
    -------
    torch.Tensor
        [length], float32.

    Raises
    ------
    UserError
        The file cannot be read, or what was read is empty or not finite.

    Example
    -------
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
        signal, _ = audio_io.load(
            wav,
            frame_offset=start + offset,
            num_frames=min(length, stop - start),
        )
    except Exception as error:
        # Whatever the audio library raises, the user needs the file's name.
        raise UserError(f"{wav}: cannot be read ({error})") from error
    signal = signal.mean(0)
    if signal.numel() == 0 or not torch.isfinite(signal).all():
        raise UserError(
            f"{wav}: samples {start + offset} to {start + offset + length} are "
            'empty or not finite; prepare the data with check_audio: "full"'
        )
    if signal.numel() < length:
        signal = signal.repeat(-(-length // signal.numel()))[:length]
    return signal
