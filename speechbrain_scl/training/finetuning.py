"""Initialising from a pretrained encoder."""

import contextlib
import os

import torch

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.fetching import fetch
from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line
from speechbrain_scl.evaluation.encoder import how_to_fetch

logger = get_logger(__name__)

# As ours and as SpeechBrain's own hub repositories call it.
_LABELS = ("label_encoder.ckpt", "label_encoder.txt")


def start_from(source, modules, label_encoder, folder):
    """Takes over an encoder, and the class vectors of speakers known to it.

    ``source`` is an inference folder, or a hub repository in the layout of
    speechbrain/spkrec-ecapa-voxceleb, fetched into ``folder``. Returns how
    many class vectors were taken over: those of speakers of the same name.
    """

    def find(name):
        if os.path.isdir(source):
            return os.path.join(source, name)
        how = how_to_fetch(source)
        return str(fetch(name, source, savedir=folder, fetch_config=how))

    def load(name):
        return torch.load(find(name), map_location="cpu", weights_only=True)

    try:
        encoder = load("embedding_model.ckpt")
        modules["embedding_model"].load_state_dict(encoder)
    except UNLOADABLE as error:
        raise UserError(
            f"pretrained={source}: its encoder cannot be taken over "
            f"({first_line(error)}); it must be an inference folder or a hub "
            "repository, with an embedding_model of the same settings as here"
        ) from error
    known, vectors = CategoricalEncoder(), ()
    for name in _LABELS:
        # An encoder alone is worth starting from.
        with contextlib.suppress(*UNLOADABLE):
            known.load(find(name))
            vectors = load("classifier.ckpt")["weight"]
            break
    taken, ours = 0, label_encoder.lab2ind
    for speaker in known.lab2ind.keys() & ours.keys() if len(vectors) else ():
        row = modules["classifier"].weight.data[ours[speaker]]
        vector = vectors[known.lab2ind[speaker]]
        if vector.shape == row.shape:
            row.copy_(vector)
            taken += 1
    logger.info(
        f"{source}: the encoder is taken over, and the class vectors of "
        f"{taken} of {len(ours)} speakers"
    )
    return taken
