"""The one error a user's mistake raises."""


class UserError(ValueError):
    """Something the user gave is wrong; the message says what and the remedy.

    The recipe scripts and the command line print it as one line and exit with
    status 1. Library code raises it like any ``ValueError``.
    """
