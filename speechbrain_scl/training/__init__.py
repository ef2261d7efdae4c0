"""A training: crops, the run, its schedules, and what befalls long runs."""

import importlib

_OF_RUN = ("train", "dataio_prep")


def __getattr__(name):
    """The run's functions, by the names they had when this was a module.

    Only when they are asked for: the run needs the Brain, which needs this
    package.
    """
    if name in _OF_RUN:
        return getattr(importlib.import_module(f"{__name__}.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
