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
        """Says each."""
        for warning in warnings:
            self(f"warning: {warning}")


def result(args, *lines, **facts):
    """Prints a command's result in words, or the same facts as JSON."""
    if args.json:
        lines = [json.dumps(facts)]
    for line in lines:
        print(printable(line, keep="\t"))


def silence_known_noise():
    """Drops what SpeechBrain and torch say of themselves at every start; errors
    of the same loggers, and all else that they say, still come."""
    for name in _NOISE:
        logging.getLogger(name).addFilter(_helps)


def _helps(record):
    noise = _NOISE[record.name] in record.getMessage()
    return record.levelno >= logging.ERROR or not noise
