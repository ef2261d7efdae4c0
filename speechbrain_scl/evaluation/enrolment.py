"""Enrolment models: speakers enrolled with several utterances."""

import numpy as np

from speechbrain_scl.data.tables import read_lines
from speechbrain_scl.errors import UserError

# Which of the two is used changes the figures: CN-Celeb's are published in
# both (Avg and Concat).
CONVENTIONS = ("mean", "concatenate")


def read_enrolment_map(path):
    """Model -> utterances, of lines of ``model utterance [utterance ...]``, as
    Kaldi's spk2utt and CN-Celeb's enroll.map have them."""
    models = {}
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        model, *utterances = line.split()
        if not utterances:
            raise UserError(f"{where}: {model} has no utterance")
        if model in models:
            raise UserError(f"{where}: {model} comes twice")
        if len(set(utterances)) < len(utterances):
            raise UserError(f"{where}: an utterance comes twice")
        models[model] = utterances
    return models


def mean_embedding(vectors, crops=False):
    """The mean of several utterances' embeddings: of an enrolment model (Avg),
    or of a cohort's speaker.

    Each utterance has one vote: vectors of unit length are averaged, as only
    their angle was trained (wespeaker's longer vectors count more). With
    ``crops`` the halves of a vector have means of their own, so that the score
    is still half the cosine of whole utterances, half that of pairs of crops.
    """
    if len(vectors) == 1:
        return vectors[0]
    mean = np.mean(vectors, axis=0)
    if not crops:
        return mean / np.linalg.norm(mean)
    whole, of_crops = np.split(mean, 2)
    whole = whole / np.linalg.norm(whole) / np.sqrt(2)
    return np.concatenate([whole, of_crops]).astype(mean.dtype)
