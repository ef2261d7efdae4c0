"""A recording as a model hears it."""

import dataclasses

import numpy as np
import torch

from speechbrain_scl.data.recordings import read_recording
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.voices.speech import speech_seconds

# Seconds: below, an encoder's kernels do not fit; a voice says little.
_SHORTEST = 0.1
_LITTLE_SPEECH = 1.0


@dataclasses.dataclass(frozen=True)
class Heard:
    """A recording that the model has heard.

    Arguments
    ---------
    name : str
        The recording's.
    embedding : numpy.ndarray
        float32 [D], unit length.
    duration, speech : float
        Seconds of sound, and of speech in it.
    change : str
        What was done to the recording to fit the model, or "".
    warnings : tuple of str
        What makes the embedding doubtful.
    """

    name: str
    embedding: np.ndarray
    duration: float
    speech: float
    change: str
    warnings: tuple


def listen(encoder, source):
    """Reads and embeds a recording.

    Arguments
    ---------
    encoder : callable
        Waveforms [batch, time] to embeddings [batch, D], with a
        ``sample_rate`` in Hz.
    source : str, file object or tuple
        As ``read_recording`` takes it.

    Returns
    -------
    Heard

    Raises
    ------
    UserError
        A recording that cannot be read, is silent or below 0.1 s.
    """
    read = read_recording(source, encoder.sample_rate)
    if not read.waveform.any():
        raise UserError(f"{read.name}: it is silent")
    if read.duration < _SHORTEST:
        raise UserError(
            f"{read.name}: {read.duration:.3f} s; no voice is known from "
            f"less than {_SHORTEST} s"
        )
    speech = speech_seconds(read.waveform, read.sample_rate)
    warnings = ()
    if read.missing:
        warnings += (
            f"{read.name}: cut off: {read.missing} bytes that its header "
            "promises are not there",
        )
    if speech == 0:
        warnings += (f"{read.name}: no speech in its {read.duration:.1f} s",)
    elif speech < _LITTLE_SPEECH:
        warnings += (
            f"{read.name}: only {speech:.1f} s of speech; scores of less "
            f"than {_LITTLE_SPEECH:.0f} s say little",
        )
    return Heard(
        read.name,
        _embed(encoder, read),
        read.duration,
        speech,
        read.change,
        warnings,
    )


def _embed(encoder, recording):
    """The unit embedding [D]."""
    waveform = torch.from_numpy(recording.waveform)[None]
    try:
        with torch.inference_mode():
            vector = encoder(waveform)[0].cpu().float()
    except RuntimeError as error:  # out of memory, most of all
        raise UserError(
            f"{recording.name}: the model cannot take its "
            f"{recording.duration:.1f} s ({first_line(error)})"
        ) from error
    length = vector.norm()
    if not (torch.isfinite(length) and length > 0):
        raise UserError(
            f"{recording.name}: its embedding is zero or not finite"
        )
    return (vector / length).numpy()
