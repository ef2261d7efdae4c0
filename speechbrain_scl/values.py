"""Which values an option may have: numbers of a range, lists, text."""

import dataclasses
import math

from speechbrain_scl.errors import UserError

# Intervals come from resampling the test speakers. Resamples of fewer repeat
# one another: of two, half are the same pair.
FEWEST_TEST_SPEAKERS = 10


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that an option may be.

    Arguments
    ---------
    least, most : float
        The ends.
    whole : bool
        Whether it counts something.
    open : bool
        Whether the ends themselves are out.

    Example
    -------
    >>> print(Range(least=2, whole=True))
    a whole number, at least 2
    >>> 0.5 in Range(0, 1), True in Range(0, 1), "0.5" in Range(0, 1)
    (True, False, False)
    """

    least: float
    most: float = math.inf
    whole: bool = False
    open: bool = False

    def __contains__(self, value):
        kinds = int if self.whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        if self.open and value in (self.least, self.most):
            return False
        # NaN compares as false, and nothing here can use infinity.
        return self.least <= value <= self.most and math.isfinite(value)

    def __str__(self):
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.most):
            place = f"between {self.least:g} and {self.most:g}"
        else:
            place = f"{'above' if self.open else 'at least'} {self.least:g}"
        return f"{kind}, {place}"


def as_list(value, name):
    """The items of an option that takes one or several.

    Arguments
    ---------
    value : str or list of str
        As the option may spell it: one, several separated by commas, a list.
    name : str
        The option's, for the error.

    Returns
    -------
    list of str

    Raises
    ------
    UserError
        Nothing, or something that is no text.

    Example
    -------
    >>> as_list("a.txt, b.txt", "verification_file")
    ['a.txt', 'b.txt']
    """
    items = value.split(",") if isinstance(value, str) else value
    if (
        not isinstance(items, list | tuple)
        or not items
        or not all(map(is_text, items))
    ):
        raise UserError(f"{name}={value!r}: name one, or a list of several")
    return [item.strip() for item in items]


def is_text(value):
    """Whether a value is text that says something.

    Arguments
    ---------
    value : object
        Of an option.

    Returns
    -------
    bool

    Example
    -------
    >>> is_text("a.txt"), is_text(" "), is_text(3)
    (True, False, False)
    """
    return isinstance(value, str) and bool(value.strip("\0 "))
