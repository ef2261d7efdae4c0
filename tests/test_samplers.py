"""Batches of speakers x utterances, over random corpora."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from speechbrain.dataio.sampler import DistributedSamplerWrapper
from speechbrain_scl.errors import UserError
from speechbrain_scl.samplers import (
    NearSpeakerBatchSampler,
    SpeakerBatchSampler,
)

many = settings(max_examples=40)


@st.composite
def corpora(draw):
    """Speakers of each utterance (from 1 to 12 of each), and P and K."""
    counts = draw(st.lists(st.integers(1, 12), min_size=2, max_size=15))
    speakers = [f"s{i}" for i, n in enumerate(counts) for _ in range(n)]
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(speakers)
    return speakers, draw(st.integers(2, len(counts))), draw(st.integers(1, 5))


def tags_of(speakers, n_tags):
    """One of so many sessions of each utterance; none of none."""
    rng = np.random.default_rng(n_tags)
    tags = rng.integers(max(n_tags, 1), size=len(speakers))
    return [f"session {tag}" for tag in tags] if n_tags else None


@given(
    corpora(),
    st.integers(0, 2**31),
    st.integers(0, 1000),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.3, 1.0]),
)
@many
def test_every_batch_and_every_epoch(corpus, seed, epoch, n_tags, hard):
    speakers, p, k = corpus
    arguments = speakers, p, k, seed, epoch, 1, tags_of(speakers, n_tags)
    sampler = plain = SpeakerBatchSampler(*arguments)
    if hard:
        sampler = NearSpeakerBatchSampler(*arguments, hard=hard)
        n_speakers = len(set(speakers))
        rng = np.random.default_rng(seed)
        sampler.find_near(rng.normal(size=(n_speakers, 3)))
        assert sorted(sampler.near_order) == list(range(n_speakers))
    batches = list(sampler)
    assert len(batches) == len(sampler) == len(plain)
    count = Counter(speakers)
    times, plain_times = Counter(), Counter()
    for batch in batches:
        groups = [batch[i : i + k] for i in range(0, len(batch), k)]
        names = [{speakers[i] for i in group} for group in groups]
        assert all(len(name) == 1 for name in names)
        assert len(set.union(*names)) == p == len(groups)
        for group, (name,) in zip(groups, names):
            # Repeated only where the speaker has too few
            assert len(set(group)) == min(k, count[name])
            times[name] += 1
    for batch in plain:
        plain_times.update(speakers[i] for i in batch[::k])
    assert times == plain_times  # near speakers change places, no more
    # Every utterance is reached, in as few batches as there can be.
    assert {i for batch in batches for i in batch} == set(range(len(speakers)))
    groups = [-(-n // k) for n in count.values()]
    assert len(batches) == max(-(-sum(groups) // p), max(groups))
    # The order is a function of seed and epoch alone.
    sampler.set_epoch(epoch + 1)
    torch.rand(1), np.random.rand(), list(sampler)
    sampler.set_epoch(epoch)
    assert list(sampler) == batches


@given(corpora(), st.integers(2, 5), st.integers(0, 9))
@many
def test_speechbrain_deals_each_batch_to_one_process(corpus, processes, epoch):
    speakers, p, k = corpus
    shards = []
    for rank in range(processes):
        sampler = SpeakerBatchSampler(speakers, p, k, 1, processes=processes)
        shard = DistributedSamplerWrapper(
            sampler, num_replicas=processes, rank=rank
        )
        shard.set_epoch(epoch)
        shards.append(list(shard))
    # As many for each, and together the epoch, nothing twice.
    assert len({len(shard) for shard in shards}) == 1
    dealt = [tuple(batch) for shard in shards for batch in shard]
    assert Counter(dealt) == Counter(map(tuple, sampler))
    assert {i for batch in dealt for i in batch} == set(range(len(speakers)))
    fewest = len(SpeakerBatchSampler(speakers, p, k, 1))
    assert len(dealt) < fewest + max(processes, 2 * processes - fewest + 1)


@given(corpora(), st.integers(1, 4), st.integers(0, 2**31))
@many
def test_utterances_come_from_different_sessions_wherever_they_can(
    corpus, n_tags, seed
):
    """A session comes twice in a group only where the speaker has too few
    sessions, or one with more utterances than the epoch has groups of his."""
    speakers, p, k = corpus
    tags = tags_of(speakers, n_tags)
    passes = {}
    for batch in SpeakerBatchSampler(speakers, p, k, seed, spread_over=tags):
        for i in range(0, len(batch), k):
            group = batch[i : i + k]
            passes.setdefault(speakers[group[0]], []).append(group)
    for speaker, groups in passes.items():
        sizes = Counter(t for s, t in zip(speakers, tags) if s == speaker)
        n_groups = -(-sizes.total() // k)
        found = [len({tags[i] for i in group}) for group in groups]
        if max(sizes.values()) <= n_groups:
            # With few sessions each one is there; n < k repeats utterances.
            assert found == [min(k, len(sizes))] * len(found)
        # A session is in as many groups as it can be.
        own = sum(min(n, n_groups) for n in sizes.values())
        assert sum(found[:n_groups]) >= own


def corpus(n_speakers=20, n_utterances=7):
    return np.repeat(np.arange(n_speakers), n_utterances).tolist()


@pytest.mark.parametrize("hard", [0.25, 0.5, 1.0])
def test_near_speakers_come_together(hard):
    # Their vectors lie in 25 well separated groups of eight.
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(25), 8))
    centres = rng.normal(size=(25, 32))
    vectors = centres[group] + 0.1 * rng.normal(size=(200, 32))
    speakers = np.repeat(np.arange(200), 6)
    names = np.unique(speakers.astype(str)).astype(int)

    def largest(sampler):
        """How many of a batch's 16 speakers are of one group, on average."""
        found = []
        for batch in sampler:
            of_batch = [group[speakers[i]] for i in batch[::2]]
            found.append(max(Counter(of_batch).values()))
        return np.mean(found)

    sampler = NearSpeakerBatchSampler(speakers, 16, 2, seed=0, hard=hard)
    before = largest(sampler)  # without vectors as without the option
    assert before == largest(SpeakerBatchSampler(speakers, 16, 2, seed=0))
    sampler.find_near(vectors[names])
    wanted = min(16 * hard, 8)
    assert largest(sampler) > max(0.55 * wanted, before + 0.5)


def test_pairs_and_companions_change_from_epoch_to_epoch(monkeypatch):
    """Not always the same two sessions together, nor the same negatives."""
    monkeypatch.setenv("SB_GLOBAL_SEED", "77")
    tags = [f"session {i}" for _ in range(20) for i in range(7)]
    sampler = SpeakerBatchSampler(corpus(), 4, 2, spread_over=tags)
    pairs, companions = set(), set()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        for batch in sampler:
            groups = [frozenset(batch[i : i + 2]) for i in range(0, 8, 2)]
            for group in groups:
                if max(group) < 7:  # the first speaker's
                    pairs.add(group)
                    companions |= {i // 7 for i in batch}
    assert len(pairs) == 7 * 6 // 2 and len(companions) == 20
    # Without a seed of its own it takes SpeechBrain's.
    same = SpeakerBatchSampler(corpus(), 4, 2, 77, 39, spread_over=tags)
    assert list(sampler) == list(same)
    other = SpeakerBatchSampler(corpus(), 4, 2, 78, 39, spread_over=tags)
    assert list(sampler) != list(other)


@pytest.mark.parametrize(
    "speakers, p, k, options, message",
    [
        (corpus(), 1, 2, {}, "speakers_per_batch=1"),
        (corpus(), 4, 0, {}, "utterances_per_speaker=0"),
        (corpus(3), 4, 2, {}, "lower it to 3"),
        ([], 2, 2, {}, "0 speaker"),
        (corpus(), 4, 2, {"hard": 1.5}, "hard=1.5"),
        (corpus(), 4, 2, {"hard": 0}, "hard=0"),
        (corpus(), 4, 2, {"spread_over": ["a"] * 139}, "139 .* 140"),
    ],
)
def test_what_cannot_be_batched_is_refused(speakers, p, k, options, message):
    with pytest.raises(UserError, match=message):
        NearSpeakerBatchSampler(speakers, p, k, **{"hard": 1, **options})
    with pytest.raises(UserError, match="3 vectors for 20"):
        NearSpeakerBatchSampler(corpus(), 4, 2, hard=0.5).find_near(np.eye(3))
