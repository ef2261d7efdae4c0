"""The error rate that a training is watched by."""

from collections import Counter

import torch
import torch.nn.functional as F

from speechbrain_scl.errors import UserError

# Utterances: their pairs, 4.5 million, are scored in a second.
_MOST = 3000


def validation_error(embeddings, speakers, error_rate):
    """The error rate over all pairs of the validation utterances.

    Of many utterances, 3,000 are paired, spread over the speakers.

    Arguments
    ---------
    embeddings : torch.Tensor
        [utterances, dim], of any length.
    speakers : list
        The speaker of each, by name or class.
    error_rate : function
        Of (scores, labels), both [pairs], to (error rate, threshold), e.g.
        ``evaluation.metrics.eer``.

    Returns
    -------
    float
        As ``error_rate`` returns it.

    Raises
    ------
    UserError
        No pair of one speaker, or none of two.

    Example
    -------
    >>> from speechbrain_scl.evaluation.metrics import eer
    >>> embeddings = torch.tensor([[1.0, 0], [2, 0.1], [0, 1], [0.1, 3]])
    >>> validation_error(embeddings, ["ann", "ann", "bob", "bob"], eer)
    0.0
    """
    embeddings = F.normalize(embeddings).cpu()
    classes = {name: i for i, name in enumerate(speakers)}
    speakers = torch.tensor([classes[name] for name in speakers])
    if len(speakers) > _MOST:
        kept = _spread(speakers.tolist(), _MOST)
        embeddings, speakers = embeddings[kept], speakers[kept]
    first, second = torch.triu_indices(len(speakers), len(speakers), 1)
    scores = (embeddings @ embeddings.T)[first, second]
    labels = speakers[first] == speakers[second]
    if labels.all() or not labels.any():
        raise UserError(
            f"validation needs pairs of the same and of different "
            f"speakers, but has {len(speakers)} utterance(s) of "
            f"{len(classes)} speaker(s): raise valid_speakers"
        )
    rate, _ = error_rate(scores, labels)
    return rate


def _spread(speakers, most):
    """The first utterances of every speaker, then the second ones, ..."""
    seen = Counter()
    rounds = []
    for speaker in speakers:
        rounds.append(seen[speaker])
        seen[speaker] += 1
    return sorted(range(len(rounds)), key=rounds.__getitem__)[:most]
