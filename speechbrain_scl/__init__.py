"""Margin-contrastive speaker embeddings for SpeechBrain.

The objective of Li, Mak and Meng (ICASSP 2023, arXiv 2210.16622) as plain
PyTorch modules and one SpeechBrain ``Brain``: a supervised contrastive loss
with an angular margin, class-aware attention over its pairs, and gradient
balancing between it and the classification loss.
"""

import importlib

__version__ = "0.1.0"

# Modules that stood here, and that HyperPyYAML files name so: it finds what is
# no module as an attribute.
_MOVED = {
    "schedules": "training.schedules",
    "classifiers": "training.classifiers",
    "checkpoints": "training.checkpoints",
    "finetuning": "training.finetuning",
    "dataio": "training.crops",
    "resilience": "training.resilience",
    "progress": "training.progress",
    "inference": "release.inference",
    "hub": "release.hub",
    "onnx_export": "release.onnx",
    "cli": "command_line.main",
    "experiment": "command_line.experiment",
    "options": "command_line.options",
    "margin_contrast": "_margin_contrast",
}


def __getattr__(name):
    """A moved module, by the name it had."""
    if name in _MOVED:
        return importlib.import_module(f"{__name__}.{_MOVED[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
