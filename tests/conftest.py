"""Shared set-up of the tests."""

import os

import torch

# Hub libraries must not try the network, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The tests share a small machine; a few threads are faster than many.
torch.set_num_threads(2)
