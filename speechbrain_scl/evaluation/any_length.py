"""Utterances of any length to embeddings, by whichever encoder."""

from contextlib import contextmanager
from itertools import groupby

import torch
import torch.nn.functional as F

from speechbrain.utils.logger import get_logger
from speechbrain_scl.evaluation.packed import PackedEncoder, Unknown

logger = get_logger(__name__)

_CHECKED = 3  # utterances that are embedded alone, too
_TOLERANCE = 1e-10  # of 1 - cosine; rounding takes some 1e-13
_BATCH = 16  # utterances of one length at a time, where packs are not known


class AnyLength:
    """Embeds utterances of any length, each as if it were alone.

    Together where ``PackedEncoder`` can. The first utterances are embedded
    alone, too: where that is not the same, and for other encoders, utterances
    of one length share a batch, and the log says so.

    ``alone`` embeds waveforms [batch, time] by the modules, which are those of
    an inference folder in eval mode; what they learn later is not seen.
    """

    def __init__(self, alone, modules):
        self.alone = alone
        self.checked = False
        self.packed = None
        try:
            self.packed = PackedEncoder(
                modules["compute_features"],
                modules["mean_var_norm"],
                modules["embedding_model"],
            )
        except (KeyError, Unknown) as reason:
            logger.info(
                "Only utterances of one length share a batch: %s", reason
            )

    @torch.inference_mode()
    def __call__(self, wavs):
        """Waveforms [time] on the CPU to [utterances, dim]."""
        self.check(wavs)
        if self.packed and min(map(len, wavs)) > self.packed.shortest:
            return self.packed(wavs)
        order = sorted(range(len(wavs)), key=lambda i: len(wavs[i]))
        found = {}
        for _, alike in groupby(order, lambda i: len(wavs[i])):
            alike = list(alike)
            for i in range(0, len(alike), _BATCH):
                batch = alike[i : i + _BATCH]
                vectors = self.alone(torch.stack([wavs[j] for j in batch]))
                found.update(zip(batch, vectors))
        return torch.stack([found[i] for i in range(len(wavs))])

    @torch.inference_mode()
    def check(self, wavs):
        """Compares packed with alone, the first time; processes that must agree
        check the same waveforms."""
        if self.checked or not self.packed:
            return
        some = [w for w in wavs if len(w) > self.packed.shortest][:_CHECKED]
        if not some:
            return
        self.checked = True
        with _float32():
            alone = torch.cat([self.alone(wav[None]) for wav in some])
            packed = self.packed(some)
        off = 1 - F.cosine_similarity(alone.double(), packed.double()).min()
        if not off <= _TOLERANCE:  # nor where it is not a number
            self.packed = None
            logger.warning(
                "Only utterances of one length share a batch: packed, a cosine "
                "to the utterance alone is 1 - %.1e",
                off,
            )


@contextmanager
def _float32():
    """Without autocast and TF32, which SpeechBrain allows on a GPU."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        with torch.autocast("cuda", enabled=False):
            with torch.autocast("cpu", enabled=False):
                yield
    finally:
        for place, allowed in zip(places, before):
            place.allow_tf32 = allowed
