"""The one error a user's mistake raises, and what helps to tell it."""

import contextlib
import logging
import pickle
import sys

# What damaged parameters, those of another model, or a pickle with code in it
# raise when they are loaded.
UNLOADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    EOFError,
    OSError,
)


class UserError(ValueError):
    """Something the user gave is wrong; the message says what and the remedy.

    The recipe scripts and the command line print it as one line and exit with
    status 1. Library code raises it like any ``ValueError``.
    """


@contextlib.contextmanager
def user_errors_in_one_line(status=1):
    """Ends the program with one line where the user is at fault, the system
    lets a file not be read or written, or Ctrl-C was pressed (status 130).
    """
    # A log that a full disk cuts: no traceback for each line; what is computed
    # is told when it cannot be written.
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    except (UserError, OSError) as error:
        text = f"error: {error}"
        if not isinstance(error, UserError):
            text += (
                ": free space, allow access or choose another folder, and run "
                "it again; what is complete stays"
            )
        print(printable(text, keep=chr(10)), file=sys.stderr)
        ended = SystemExit(text)
        ended.code = status
        raise ended from error
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        logging.raiseExceptions = before


def first_line(error):
    """The gist of a message that goes on for pages."""
    lines = str(error).strip().splitlines() or [""]
    gist = lines[0]
    if gist.endswith(":") and len(lines) > 1:
        gist += f" {lines[1].strip()}"
    return f"{type(error).__name__}: {gist}".rstrip(": ")


def printable(text, keep=""):
    """A text that no terminal takes for a command."""
    return "".join(
        c if c.isprintable() or c in keep else repr(c)[1:-1] for c in str(text)
    )
