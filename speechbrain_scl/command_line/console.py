"""What reaches the console: remarks of a command, less what helps nobody."""

import json
import logging
import sys

from tqdm import tqdm

from speechbrain_scl.errors import printable

# Of each of these loggers, the messages with these words.
_NOISE = {
    "speechbrain.utils.train_logger": "torchvision is not available",
    "speechbrain.utils.quirks": " quirks ",
    # The epoch's line has the rate; a schedule changes it at every batch.
    "speechbrain.nnet.schedulers": "Changing lr",
    "torch.utils.cpp_extension": "CUDA_HOME",
}


class Remarks:
    """What a command says beside its results: once, on standard error."""

    def __init__(self, quiet=False):
        self.quiet = quiet
        self._said = set()

    def __call__(self, text, kind=None):
        """Says a text, unless it (or its kind) was said before."""
        if not self.quiet and (kind or text) not in self._said:
            tqdm.write(printable(text), file=sys.stderr)
            self._said.add(kind or text)

    def warn(self, warnings):
        """Says each of several warnings."""
        for warning in warnings:
            self(f"warning: {warning}")


def result(args, *lines, **facts):
    """Prints a command's result in words, or the same facts as JSON."""
    if args.json:
        lines = [json.dumps(facts)]
    for line in lines:
        print(printable(line, keep="\t"))


class _Without(logging.Filter):
    """Drops messages below errors that have certain words."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def filter(self, record):
        return (
            record.levelno >= logging.ERROR
            or self.words not in record.getMessage()
        )


def silence_known_noise():
    """Drops what SpeechBrain and torch say of themselves at every start.

    Errors of the same loggers, and all else that they say, still come.

    Example
    -------
    >>> silence_known_noise()
    >>> logger = logging.getLogger("speechbrain.nnet.schedulers")
    >>> logger.warning("Changing lr from 0.1 to 0.09")
    """
    for name, words in _NOISE.items():
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Without) for f in logger.filters):
            logger.addFilter(_Without(words))
