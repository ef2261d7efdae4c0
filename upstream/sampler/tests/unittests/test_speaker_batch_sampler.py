"""Tests of the batches of speakers with several utterances each.

Authors
 * YOUR NAME 2026
"""

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset


def test_SpeakerBatchSampler(device):
    from speechbrain.dataio.sampler import SpeakerBatchSampler

    sizes = [1, 2, 3, 5, 8, 13]
    speakers = [name for name, n in zip("abcdef", sizes) for _ in range(n)]
    sampler = SpeakerBatchSampler(speakers, 3, 2, seed=1)
    loader = DataLoader(
        TensorDataset(torch.arange(len(speakers), device=device)),
        batch_sampler=sampler,
    )
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append([batch.tolist() for (batch,) in loader])
        assert len(epochs[-1]) == len(sampler)
        # Every batch: three speakers with two utterances each
        for batch in epochs[-1]:
            counts = Counter(speakers[item] for item in batch)
            assert sorted(counts.values()) == [2, 2, 2]
        # No utterance is left out
        items = {item for batch in epochs[-1] for item in batch}
        assert items == set(range(len(speakers)))
    assert epochs[0] == epochs[2] != epochs[1]

    # Dealt out to three processes without a remainder
    for_three = SpeakerBatchSampler(speakers, 3, 2, seed=1, processes=3)
    assert len(for_three) % 3 == 0
    with pytest.raises(ValueError, match="speakers_per_batch=7"):
        SpeakerBatchSampler(speakers, 7, 2)
