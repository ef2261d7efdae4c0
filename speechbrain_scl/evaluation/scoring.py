"""Cosine scores and their normalisation by a cohort."""

import numpy as np

from speechbrain_scl.errors import UserError

METHODS = ("none", "z-norm", "t-norm", "s-norm", "as-norm")
_BLOCK = 2**22  # elements of a block of products


def cosine_scores(enrol, test, enrol_index, test_index):
    """Cosine of each trial's two embeddings.

    Arguments
    ---------
    enrol, test : numpy.ndarray
        The distinct embeddings of each side, [E, D] and [T, D], any scale.
    enrol_index, test_index : numpy.ndarray
        [N], the rows of each trial.

    Returns
    -------
    numpy.ndarray
        [N], float64, in [-1, 1].

    Example
    -------
    >>> vectors = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> cosine_scores(vectors, vectors, [0, 0], [0, 1])
    array([1., 0.])
    """
    enrol, test = _unit(enrol), _unit(test)
    enrol_index, test_index = np.asarray(enrol_index), np.asarray(test_index)
    scores = np.empty(len(enrol_index))
    step = max(1, _BLOCK // enrol.shape[1])
    for i in range(0, len(scores), step):
        block = slice(i, i + step)
        scores[block] = np.einsum(
            "nd,nd->n", enrol[enrol_index[block]], test[test_index[block]]
        )
    return scores.clip(-1.0, 1.0)


def cohort_statistics(embeddings, cohort, top_n=None):
    """Mean and standard deviation of each embedding's cohort scores.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [N, D].
    cohort : numpy.ndarray
        [C, D], impostors: utterances, or means of the training speakers.
    top_n : int or None
        Only the ``top_n`` highest scores count (adaptive normalisation).

    Returns
    -------
    mean, std : numpy.ndarray
        [N] each.

    Raises
    ------
    UserError
        A cohort smaller than ``top_n``, or smaller than two.
    """
    needed = top_n or 2
    if len(cohort) < max(needed, 2):
        raise UserError(
            f"the cohort has {len(cohort)} members, but top_n={top_n} needs "
            f"{max(needed, 2)}: lower top_n or enlarge the cohort"
        )
    embeddings, cohort = _unit(embeddings), _unit(cohort)
    mean, std = np.empty(len(embeddings)), np.empty(len(embeddings))
    step = max(1, _BLOCK // len(cohort))
    for i in range(0, len(embeddings), step):
        block = slice(i, i + step)
        scores = embeddings[block] @ cohort.T
        if top_n and top_n < len(cohort):
            scores = np.partition(scores, -top_n, axis=1)[:, -top_n:]
        mean[block] = scores.mean(1)
        std[block] = scores.std(1, ddof=1)
    return mean, std


def normalize_scores(scores, enrol, test, method):
    """Normalises scores by the cohort statistics of their two sides.

    z-norm uses the enrolment's statistics, t-norm the test's, s-norm the mean
    of both results (Kenny 2010); as-norm is s-norm over the top of the cohort
    (Matejka et al., Interspeech 2017).

    Arguments
    ---------
    scores : numpy.ndarray
        [N].
    enrol, test : tuple of numpy.ndarray
        (mean, std), each [N]: of each trial's enrolment and test embedding.
    method : str
        ``none``, ``z-norm``, ``t-norm``, ``s-norm`` or ``as-norm`` (s-norm and
        as-norm differ in the statistics they are given).

    Returns
    -------
    numpy.ndarray
        [N].

    Raises
    ------
    UserError
        An unknown method.

    Example
    -------
    >>> stats = (np.zeros(1), np.full(1, 0.5))
    >>> normalize_scores(np.ones(1), stats, stats, "s-norm")
    array([2.])
    """
    check_method(method)
    if method == "none":
        return scores
    z = (scores - enrol[0]) / enrol[1]
    t = (scores - test[0]) / test[1]
    return {"z-norm": z, "t-norm": t}.get(method, (z + t) / 2)


def check_method(method):
    """Refuses an unknown score normalisation.

    Arguments
    ---------
    method : str
        One of ``METHODS``.
    """
    if method not in METHODS:
        raise UserError(f"score_norm={method!r}: choose one of {METHODS}")


def _unit(vectors):
    vectors = np.asarray(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
