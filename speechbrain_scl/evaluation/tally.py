"""Scored trials as counts: how many of either kind have which score."""

import dataclasses

import numpy as np
import torch

from speechbrain_scl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Tally:
    """All that an error rate depends on. Counts add up exactly, whatever the
    blocks that a list comes in.

    Arguments
    ---------
    scores : numpy.ndarray
        float64 [K], the distinct scores, ascending.
    targets, impostors : numpy.ndarray
        int64 [K], the trials of either kind that have them.

    Example
    -------
    >>> whole = Tally.of([0.1, 0.9, 0.1], [0, 1, 1])
    >>> whole
    Tally(scores=array([0.1, 0.9]), targets=array([1, 1]), \
impostors=array([1, 0]))
    >>> parts = Tally.of([0.1], [0]) + Tally.of([0.9, 0.1], [1, 1])
    >>> np.array_equal(parts.targets, whole.targets)
    True
    """

    scores: np.ndarray
    targets: np.ndarray
    impostors: np.ndarray

    @classmethod
    def of(cls, scores, labels):
        """Counts trials.

        Arguments
        ---------
        scores : array
            [T], numpy or torch.
        labels : array
            [T], true for target trials.

        Returns
        -------
        Tally

        Raises
        ------
        UserError
            Scores that are not finite, or unequal lengths.
        """
        scores, labels = as_arrays(scores, labels)
        distinct, counts = np.unique(scores, return_counts=True)
        targets = np.zeros_like(counts)
        some, of_them = np.unique(scores[labels], return_counts=True)
        targets[np.searchsorted(distinct, some)] = of_them
        return cls(distinct, targets, counts - targets)

    def __add__(self, other):
        """The trials of both."""
        scores = np.concatenate([self.scores, other.scores])
        # Stable sorting merges what is in order already.
        order = np.argsort(scores, kind="stable")
        scores = scores[order]
        first = np.flatnonzero(np.diff(scores, prepend=-np.inf))
        counts = (
            np.add.reduceat(np.concatenate(two)[order], first)
            for two in (
                (self.targets, other.targets),
                (self.impostors, other.impostors),
            )
        )
        return Tally(scores[first], *counts)

    def __len__(self):
        return self.n_targets + self.n_impostors

    @property
    def n_targets(self):
        """How many target trials there are."""
        return int(self.targets.sum())

    @property
    def n_impostors(self):
        """How many impostor trials there are."""
        return int(self.impostors.sum())

    def at_least(self, threshold):
        """Target and impostor trials that reach a threshold.

        Arguments
        ---------
        threshold : float
            A score.

        Returns
        -------
        tuple of int
        """
        reached = self.scores >= threshold
        return tuple(
            int(kind[reached].sum()) for kind in (self.targets, self.impostors)
        )


def add_to(parts, tally):
    """Adds to tallies whose sum is wanted, so that a long one is seldom copied.

    Arguments
    ---------
    parts : list of Tally
        Each less than half as long as the one before; it is changed.
    tally : Tally
        One more.

    Example
    -------
    >>> parts = []
    >>> for score in range(4):
    ...     add_to(parts, Tally.of([score], [1]))
    >>> [len(part) for part in parts]
    [3, 1]
    """
    parts.append(tally)
    while len(parts) > 1 and 2 * len(parts[-1].scores) >= len(parts[-2].scores):
        last = parts.pop()
        parts[-1] += last


def as_arrays(scores, labels):
    """Scores and labels as arrays.

    Arguments
    ---------
    scores, labels : array
        As for ``Tally.of``.

    Returns
    -------
    scores, labels : numpy.ndarray
        float64 and bool, [T].

    Raises
    ------
    UserError
        Scores that are not finite, or unequal lengths.
    """
    scores, labels = _as_array(scores, float), _as_array(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise UserError(
            f"{scores.shape} scores for {labels.shape} labels: both must be "
            "flat and equally long"
        )
    if not np.isfinite(scores).all():
        raise UserError(
            f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN "
            f"or inf, the first is number {np.argmin(np.isfinite(scores))}"
        )
    return scores, labels


def _as_array(values, dtype):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=dtype)
