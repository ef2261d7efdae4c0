"""Scores to log-likelihood ratios."""

import dataclasses
import json
import os

import numpy as np
from sklearn.linear_model import LogisticRegression

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import check_scores
from speechbrain_scl.files import write_json

# Logistic regression has no finite answer where a threshold separates the
# classes; this penalty is too weak to be seen elsewhere.
_PENALTY = 1e-6


@dataclasses.dataclass(frozen=True)
class Calibration:
    """llr = scale * score + offset.

    Arguments
    ---------
    scale, offset : float
        Of the affine map to natural log-likelihood ratios.
    p_target : float
        The prior it was fitted for.
    n_trials : int
        How many trials it was fitted on.
    """

    scale: float
    offset: float
    p_target: float
    n_trials: int

    def __call__(self, scores):
        """Log-likelihood ratios of scores.

        Arguments
        ---------
        scores : numpy.ndarray
            Any shape.

        Returns
        -------
        numpy.ndarray
            Natural logarithm; accept where it exceeds
            log((1 - p_target) / p_target), at unit costs.
        """
        return self.scale * np.asarray(scores) + self.offset

    def save(self, path):
        """Writes it as JSON.

        Arguments
        ---------
        path : str
            The file.
        """
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        """Reads what ``save`` wrote.

        Arguments
        ---------
        path : str
            The file.

        Returns
        -------
        Calibration

        Raises
        ------
        UserError
            No such file, or one of another kind.
        """
        if not os.path.isfile(path):
            raise UserError(f"{path}: there is no such calibration")
        try:
            with open(path, encoding="utf-8") as file:
                return cls(**json.load(file))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: no calibration: {error}") from error


def fit_calibration(scores, labels, p_target=0.01):
    """Linear logistic regression of the labels on the scores.

    Minimises the cross-entropy in which targets weigh ``p_target`` together
    (Brummer and du Preez, 2006), so that the result is right about the
    operating point.

    Arguments
    ---------
    scores, labels : array
        [T], of trials that are not those to be judged.
    p_target : float
        Prior of a target, in (0, 1).

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        Scores that are not finite or one class only; scores that do not rise
        from impostors to targets.

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(20_000) % 2 == 0
    >>> x = rng.normal(size=20_000) + np.where(labels, 1, -1)
    >>> calibration = fit_calibration(x, labels, p_target=0.5)
    >>> round(calibration.scale, 1), abs(round(calibration.offset, 1))
    (2.0, 0.0)
    """
    if not 0 < p_target < 1:
        raise UserError(f"p_target={p_target}: between 0 and 1, please")
    scores, labels = check_scores(scores, labels)
    spread = scores.std()
    if spread == 0:
        raise UserError("all calibration scores are equal")
    share = labels.mean()
    # On a scale of its own, so that the penalty means the same everywhere.
    regression = LogisticRegression(
        C=1 / (_PENALTY * len(scores)), tol=1e-8, max_iter=1000
    ).fit(
        scores[:, None] / spread,
        labels,
        np.where(labels, p_target / share, (1 - p_target) / (1 - share)),
    )
    scale = float(regression.coef_[0, 0] / spread)
    if scale <= 0:
        raise UserError(
            f"{len(scores)} calibration trials: targets do not score higher "
            "than impostors, so there is nothing to calibrate"
        )
    offset = float(regression.intercept_[0]) - np.log(p_target / (1 - p_target))
    return Calibration(scale, float(offset), p_target, len(scores))


def calibration_trials(speakers, n_max=200_000, seed=0):
    """Pairs of utterances of held-out speakers.

    Arguments
    ---------
    speakers : list
        The speaker of each utterance.
    n_max : int
        Draw as many impostor pairs where there are more (all target pairs
        stay).
    seed : int
        Of the draw.

    Returns
    -------
    first, second : numpy.ndarray
        [T], the utterances of each pair.
    labels : numpy.ndarray
        bool [T], the speakers are the same.

    Example
    -------
    >>> first, second, labels = calibration_trials(["ann", "ann", "bob"])
    >>> first, second, labels
    (array([0, 0, 1]), array([1, 2, 2]), array([ True, False, False]))
    """
    _, numbers = np.unique(speakers, return_inverse=True)
    first, second = np.triu_indices(len(numbers), 1)
    labels = numbers[first] == numbers[second]
    impostors = np.flatnonzero(~labels)
    if len(impostors) > n_max:
        rng = np.random.default_rng(seed)
        impostors = rng.choice(impostors, n_max, replace=False)
        kept = np.sort(np.append(np.flatnonzero(labels), impostors))
        first, second, labels = first[kept], second[kept], labels[kept]
    return first, second, labels
