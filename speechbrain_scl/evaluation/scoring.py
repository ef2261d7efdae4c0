"""Means of embeddings, cosine scores, and their normalisation by a cohort."""

from numbers import Integral

import numpy as np

from speechbrain_scl.errors import UserError

METHODS = ("none", "z-norm", "t-norm", "s-norm", "as-norm")
_BLOCK = 2**22  # elements of a block of products
_TILE = 2**18  # cells of a matrix product at a time
# A cell of a matrix product takes a fraction of a trial's own inner product.
_MOST_UNUSED_PER_TRIAL = 16


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
    scores = inner_products(unit(enrol), unit(test), enrol_index, test_index)
    return scores.clip(-1.0, 1.0)


def unit(vectors):
    """Vectors [N, D], scaled to unit length."""
    vectors = np.asarray(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mean_embedding(vectors, crops=False):
    """The mean of several utterances' embeddings of unit length, as only their
    angle was trained: of an enrolment model (Avg), or of a cohort's speaker.
    With ``crops`` the halves of a vector have means of their own, so that the
    score is still half the cosine of whole utterances, half that of crops."""
    if len(vectors) == 1:
        return vectors[0]
    mean = np.mean(vectors, axis=0)
    if not crops:
        return mean / np.linalg.norm(mean)
    whole, of_crops = np.split(mean, 2)
    whole = whole / np.linalg.norm(whole) / np.sqrt(2)
    return np.concatenate([whole, of_crops]).astype(mean.dtype)


def inner_products(enrol, test, enrol_index, test_index):
    """Inner product of each trial's two embeddings, as ``cosine_scores``."""
    enrol, test, enrol_index, test_index = map(
        np.asarray, (enrol, test, enrol_index, test_index)
    )
    scores = np.empty(len(enrol_index))
    if len(enrol) * len(test) <= _MOST_UNUSED_PER_TRIAL * len(scores):
        step = max(1, _TILE // len(test))
        for rows, trials in trials_by_enrolment(enrol_index, len(enrol), step):
            products = enrol[rows] @ test.T
            row = enrol_index[trials] - rows.start
            scores[trials] = products[row, test_index[trials]]
        return scores
    step = max(1, _BLOCK // enrol.shape[1])
    for i in range(0, len(scores), step):
        block = slice(i, i + step)
        scores[block] = np.einsum(
            "nd,nd->n", enrol[enrol_index[block]], test[test_index[block]]
        )
    return scores


def trials_by_enrolment(enrol_index, n_enrol, step):
    """Slices of ``step`` enrolments and the places of their trials, where there
    are any."""
    order = np.argsort(enrol_index, kind="stable")
    starts = np.arange(0, n_enrol, step)
    edges = np.searchsorted(enrol_index[order], [*starts, n_enrol])
    for start, first, last in zip(starts, edges, edges[1:]):
        if first < last:
            yield slice(start, start + step), order[first:last]


def check_cohort(n_members, top_n=None):
    """Refuses a ``top_n`` that is none, and a cohort with too few for it."""
    if top_n is not None and not (isinstance(top_n, Integral) and top_n > 1):
        raise UserError(
            f"top_n={top_n!r}: a whole number, at least 2, as one score alone "
            "has no deviation"
        )
    needed = top_n or 2
    if n_members < needed:
        raise UserError(
            f"the cohort has {n_members} members, but top_n={top_n} needs "
            f"{needed}: lower top_n or enlarge the cohort"
        )


def cohort_statistics(embeddings, cohort, top_n=None):
    """Mean and standard deviation [N] of the scores that embeddings [N, D] have
    with a cohort [C, D]; with ``top_n`` of so many highest (adaptive
    normalisation). Without, mean = e . mean(c) and variance = e^T Cov(c) e."""
    check_cohort(len(cohort), top_n)
    embeddings, cohort = np.asarray(embeddings), np.asarray(cohort)
    if cohort.ndim != 2 or embeddings.shape[1:] != cohort.shape[1:]:
        raise UserError(
            f"embeddings {embeddings.shape} and a cohort {cohort.shape}: they "
            "must be of one model, [N, D] and [C, D]"
        )
    if top_n and top_n < len(cohort):
        mean, std = np.empty((2, len(embeddings)))
        step = max(1, _BLOCK // len(cohort))
        for i in range(0, len(embeddings), step):
            scores = embeddings[i : i + step] @ cohort.T
            scores.partition(len(cohort) - top_n, axis=1)
            top = scores[:, -top_n:]
            mean[i : i + step] = top.mean(1)
            std[i : i + step] = top.std(1, ddof=1)
    else:
        # In double precision: the variance is a small difference.
        centre = cohort.mean(0, dtype=np.float64)
        spread = cohort - centre
        covariance = spread.T @ spread / (len(cohort) - 1)
        mean = embeddings @ centre
        variance = ((embeddings @ covariance) * embeddings).sum(1)
        std = np.sqrt(variance.clip(0.0))
    if not (std > 1e-6).all():
        raise UserError(
            f"the cohort's {len(cohort)} members all score alike: it needs "
            "different speakers"
        )
    return mean, std


def normalized_scores(
    cohort, method, top_n, enrol, test, enrol_index, test_index
):
    """Scores [N] of a whole list, normalised by a cohort [C, D]."""
    scores = inner_products(enrol, test, enrol_index, test_index)
    statistics = [cohort_statistics(x, cohort, top_n) for x in (enrol, test)]
    for start in range(0, len(scores), _BLOCK):
        block = slice(start, start + _BLOCK)
        sides = [
            [values[index[block]] for values in side]
            for side, index in zip(statistics, (enrol_index, test_index))
        ]
        scores[block] = normalize_scores(scores[block], *sides, method)
    return scores


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
    if method not in METHODS:
        raise UserError(f"score_norm={method!r}: choose one of {METHODS}")
    if method == "none":
        return scores
    z = (scores - enrol[0]) / enrol[1]
    t = (scores - test[0]) / test[1]
    return {"z-norm": z, "t-norm": t}.get(method, (z + t) / 2)
