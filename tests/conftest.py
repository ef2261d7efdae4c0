"""Shared set-up of the tests."""

import os

import torch
from hypothesis import HealthCheck, settings

from speechbrain.utils.importutils import LazyModule

# Hub libraries must not try the network, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests share a small machine; a few threads are faster than many.
torch.set_num_threads(2)
# Hypothesis asks every loaded module for its file; SpeechBrain's lazy modules
# would answer by importing an optional package that need not be there.
LazyModule.__file__ = None

# A shared machine has slow moments; CI tries the same examples every time.
settings.register_profile(
    "project",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
