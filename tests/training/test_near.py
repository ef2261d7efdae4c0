"""Near speakers by the classifier's vectors, from epoch to epoch."""

import pytest
import torch

from speechbrain_scl.samplers import (
    NearSpeakerBatchSampler,
    SpeakerBatchSampler,
)
from speechbrain_scl.training.near import NearSpeakers

SPEAKERS = [f"s{i}" for i in range(40) for _ in range(3)]


def started(epoch=1):
    near = NearSpeakers(0.5, after=1)
    sampler = NearSpeakerBatchSampler(SPEAKERS, 8, 2, 1, epoch, hard=near.share)
    near.start(sampler, range(40))
    return near, sampler


@pytest.mark.parametrize("shape", [(40, 4), (40, 2, 4)])
def test_a_resumed_epoch_has_the_same_batches(tmp_path, shape):
    torch.manual_seed(0)
    classifier = torch.nn.Module()
    classifier.weight = torch.nn.Parameter(torch.randn(shape))
    near, sampler = started()
    near.start_epoch(1, classifier)
    plain = SpeakerBatchSampler(SPEAKERS, 8, 2, 1, 1)
    assert list(sampler) == list(plain)  # after one epoch only
    near.start_epoch(2, classifier)
    batches = list(sampler)
    near.save(tmp_path / "near")
    torch.nn.init.normal_(classifier.weight)  # it has learnt since

    resumed, again = started(epoch=2)
    resumed.load(tmp_path / "near", end_of_epoch=False)
    resumed.start_epoch(2, classifier)
    assert list(again) == batches
    resumed.start_epoch(3, classifier)
    assert again.near_order.tolist() != sampler.near_order.tolist()
