"""A trial list, scored block by block."""

import contextlib
import dataclasses
import functools
import operator

import numpy as np

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.spool import Spool
from speechbrain_scl.evaluation.tally import Tally, add_to
from speechbrain_scl.evaluation.trials import Trials
from speechbrain_scl.files import atomic_write

# Of the scores that are written. Figures are those of the written scores, so
# that anybody's reading of scores.txt gives them again; and cosines have no
# more than two million values, whose counts fit any memory.
DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class Scored:
    """A list with its scores.

    Arguments
    ---------
    trials : Trials
        The list.
    scores : Spool
        float64 [T], of ``DECIMALS`` decimals.
    tally : Tally
        Of all trials.
    conditions : dict
        Name -> Tally, of parts of the list.
    """

    trials: Trials
    scores: Spool
    tally: Tally
    conditions: dict

    def blocks(self):
        """The trials, block by block.

        Yields
        ------
        rows : numpy.ndarray
            [B], of ``trials.ROW``.
        scores : numpy.ndarray
            [B].
        """
        yield from zip(self.trials.rows.blocks(), self.scores.blocks())


def score_list(trials, score, path=None, conditions=None, folder=None):
    """Scores a list and writes ``<label> <enrolment> <test> <score>`` lines.

    Arguments
    ---------
    trials : Trials
        The list.
    score : callable
        enrol_index, test_index (a block's, [B] each) -> scores [B].
    path : str or None
        The file of scores.
    conditions : Conditions or None
        Parts of the list to count by themselves.
    folder : str or None
        Where what is too much for the memory may lie (see ``Spool``).

    Returns
    -------
    Scored

    Raises
    ------
    UserError
        A score that is not finite; with the trial.

    Example
    -------
    >>> from speechbrain_scl.evaluation.trials import read_trials
    >>> path = getfixture("tmp_path") / "trials.txt"
    >>> _ = path.write_text("1 ann ann2\\n0 ann bob\\n")
    >>> scored = score_list(
    ...     read_trials(str(path)), lambda enrol, test: 1 - test
    ... )
    >>> scored.tally.scores
    array([0., 1.])
    """
    spool, tallies = Spool("<f8", folder), {}
    with atomic_write(path) if path else contextlib.nullcontext() as file:
        for rows in trials.rows.blocks():
            index = rows["enrol"], rows["test"]
            scores = _rounded(trials, rows, score(*index))
            spool.append(scores)
            parts = {None: slice(None)}
            if conditions:
                parts.update(conditions(*index))
            for key, chosen in parts.items():
                tally = Tally.of(scores[chosen], rows["target"][chosen])
                add_to(tallies.setdefault(key, []), tally)
            if file:
                file.write(_lines(trials, rows, scores))
    sums = {
        key: functools.reduce(operator.add, reversed(parts))
        for key, parts in tallies.items()
    }
    tally = sums.pop(None)
    named = {conditions.name(key): sums[key] for key in sorted(sums)}
    return Scored(trials, spool, tally, named)


def _rounded(trials, rows, scores):
    scores = np.asarray(scores, dtype=np.float64)
    finite = np.isfinite(scores)
    if not finite.all():
        row, score = rows[~finite][0], scores[~finite][0]
        raise UserError(
            f"{trials.path}: the score of {trials.enrol_ids[row['enrol']]} "
            f"and {trials.test_ids[row['test']]} is {score}: look at the "
            "model and its embeddings"
        )
    return scores.round(DECIMALS) + 0.0  # no negative zero


def _lines(trials, rows, scores):
    columns = (rows[name].tolist() for name in ("target", "enrol", "test"))
    return "".join(
        [
            f"{target:d} {trials.enrol_ids[enrol]} {trials.test_ids[test]} "
            f"{score:.{DECIMALS}f}\n"
            for target, enrol, test, score in zip(*columns, scores.tolist())
        ]
    )
