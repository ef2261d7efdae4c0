"""Initialising from a pretrained encoder."""

import functools
import os

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.fetching import fetch
from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line
from speechbrain_scl.evaluation.encoder import how_to_fetch
from speechbrain_scl.evaluation.model_files import load_parameters

logger = get_logger(__name__)

# As ours and as SpeechBrain's own hub repositories call it.
_LABELS = ("label_encoder.ckpt", "label_encoder.txt")


def start_from(source, modules, label_encoder, folder):
    """Takes over an encoder, and the class vectors of speakers known to it.

    Arguments
    ---------
    source : str
        A training's inference folder, or a folder or hub repository in the
        layout of speechbrain/spkrec-ecapa-voxceleb.
    modules : dict
        ``embedding_model``, changed in place, and ``classifier``, of which
        the vectors of speakers that ``source`` knows by the same name are.
    label_encoder : speechbrain.dataio.encoder.CategoricalEncoder
        The speakers of the classifier to be.
    folder : str
        Where what is fetched from a hub stays.

    Returns
    -------
    int
        How many class vectors were taken over.

    Raises
    ------
    UserError
        Nothing can be loaded from there, or it is of another architecture.

    Example
    -------
    >>> import torch
    >>> folder = getfixture("tmp_path")
    >>> trained = torch.nn.Linear(3, 2)
    >>> torch.save(trained.state_dict(), folder / "embedding_model.ckpt")
    >>> modules = {"embedding_model": torch.nn.Linear(3, 2)}
    >>> start_from(str(folder), modules, CategoricalEncoder(), str(folder))
    0
    >>> torch.equal(modules["embedding_model"].weight, trained.weight)
    True
    """
    find = _finder(source, folder)
    try:
        encoder = load_parameters(find("embedding_model.ckpt"))
        modules["embedding_model"].load_state_dict(encoder)
    except UNLOADABLE as error:
        raise UserError(
            f"pretrained={source}: its encoder cannot be taken over "
            f"({first_line(error)}); it must be an inference folder or a hub "
            "repository, with an embedding_model of the same settings as here"
        ) from error
    known = _class_vectors(find)
    if known is None:
        logger.info("%s: the encoder is taken over, no class is", source)
        return 0
    weight = modules["classifier"].weight
    taken = 0
    for speaker, index in label_encoder.lab2ind.items():
        vector = known.get(speaker)
        if vector is not None and vector.shape == weight[index].shape:
            weight.data[index] = vector.to(weight.device)
            taken += 1
    logger.info(
        "%s: the encoder is taken over, and the class vectors of %d of %d "
        "speakers",
        source,
        taken,
        len(label_encoder),
    )
    return taken


def _finder(source, folder):
    if os.path.isdir(source):
        return functools.partial(os.path.join, source)
    how = how_to_fetch(source)
    return lambda name: str(
        fetch(name, source, savedir=folder, fetch_config=how)
    )


def _class_vectors(find):
    """Speaker -> vector; None where the source has no classes."""
    for name in _LABELS:
        labels = CategoricalEncoder()
        try:
            labels.load(find(name))
            vectors = load_parameters(find("classifier.ckpt"))["weight"]
        except UNLOADABLE:
            continue  # An encoder alone is worth starting from.
        return {speaker: vectors[i] for speaker, i in labels.lab2ind.items()}
    return None
