"""A thin voice: espeak-ng through ctypes.

The library comes with the PyPI package espeakng-loader. It is GPL, so it is an
optional extra, loaded only where the mini corpus is synthesised.
"""

import ctypes

import numpy as np

from speechbrain_scl.errors import UserError

# espeak-ng/speak_lib.h
_SYNCHRONOUS = 2
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_short),
    ctypes.c_int,
    ctypes.c_void_p,
)


class Espeak:
    """Text to samples. The library is global: one instance at a time."""

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError(
                "the mini corpus is synthesised with espeak-ng: "
                "pip install espeakng-loader"
            ) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
        )
        if self.sample_rate <= 0:
            raise UserError(
                "espeak-ng did not start; reinstall espeakng-loader"
            )
        self._blocks = []
        # ctypes does not keep the callback alive by itself.
        self._callback = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, n_samples, events):
        if samples and n_samples > 0:
            block = np.ctypeslib.as_array(samples, (n_samples,))
            self._blocks.append(block.astype(np.float32) / 2**15)
        return 0

    def speak(self, text, language, variant, rate=160, pitch=50, spread=50):
        """One sentence as float32 at ``sample_rate``; ``rate`` is in words a
        minute, height and range of the pitch are 0 to 99."""
        voice = f"{language}+{variant}"
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise UserError(f"espeak-ng has no voice {voice}")
        for parameter, value in (
            (_RATE, rate),
            (_PITCH, pitch),
            (_RANGE, spread),
        ):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        data = text.encode() + b"\0"
        self._blocks = []
        self._library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._blocks)
