"""Utterances of any length to embeddings, by whichever encoder."""

import functools

import torch
import torch.nn.functional as F

from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import unwrapped
from speechbrain_scl.evaluation.packed import PackedEncoder, Unknown

logger = get_logger(__name__)

_CHECKED = 3  # utterances that are embedded alone, too
_TOLERANCE = 1e-10  # of 1 - cosine; rounding takes some 1e-13


class AnyLength:
    """Embeds a list of waveforms [time], each as if it were alone: [len, dim].

    Together where ``PackedEncoder`` can. The first utterances are embedded
    alone, too: where that is not the same, and for other encoders, utterances
    of one length share a batch, and the log says so.

    ``alone`` embeds waveforms [batch, time] by the modules, which are those of
    an inference folder in eval mode; what they learn after the first call is
    not seen.
    """

    def __init__(self, alone, modules):
        self.alone = alone
        self.modules = modules
        self.packed = None
        self.checked = False

    @torch.no_grad()
    def __call__(self, wavs):
        self.check(wavs)
        if self.packed and min(map(len, wavs)) > self.packed.shortest:
            return self.packed(wavs)
        places = {}
        for place, wav in enumerate(wavs):
            places.setdefault(len(wav), []).append(place)
        found = {}
        for alike in places.values():
            vectors = self.alone(torch.stack([wavs[i] for i in alike]))
            found.update(zip(alike, vectors))
        return torch.stack([found[i] for i in range(len(wavs))])

    @torch.no_grad()
    def check(self, wavs):
        """Compares packed with alone, the first time; processes that must
        agree check the same waveforms."""
        if self.checked:
            return
        self.checked = True
        try:
            packed = PackedEncoder(
                self.modules["compute_features"],
                self.modules["mean_var_norm"],
                unwrapped(self.modules["embedding_model"]),
            )
        except (KeyError, Unknown) as reason:
            return _say(str(reason))
        some = [w for w in wavs if len(w) > packed.shortest][:_CHECKED]
        if not some:
            return _say("the first ones are too short to compare")
        # Without the TF32 and the autocast that SpeechBrain allows on a GPU
        float32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with float32, torch.autocast(packed.device.type, enabled=False):
            wanted = torch.cat([self.alone(wav[None]) for wav in some])
            found = packed(some)
        off = 1 - F.cosine_similarity(wanted.double(), found.double()).min()
        if off <= _TOLERANCE:  # so it is a number
            self.packed = packed
        else:
            _say(f"packed, a cosine to the utterance alone is 1 - {off:.1e}")


@functools.cache  # a training run asks in every epoch
def _say(reason):
    logger.info("Only utterances of one length share a batch: %s", reason)
