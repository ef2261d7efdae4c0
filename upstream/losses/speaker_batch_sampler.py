"""The class that is added to SpeechBrain's dataio/sampler.py."""

import numpy as np
from torch.utils.data import Sampler


class SpeakerBatchSampler(Sampler):
    """Batches of P distinct speakers with K utterances each.

    A random batch of 32 over 7,205 speakers holds a pair of the same speaker
    6.6 % of the time; contrastive training wants pairs in every batch.

    An epoch reaches every utterance. Each speaker's utterances are shuffled
    and cut into groups of K. A last, incomplete group is filled up with other
    utterances of the speaker, and where the speaker has fewer than K
    utterances, they are repeated (each repetition gets its own
    augmentation). The groups are spread over the batches so that no batch
    holds a speaker twice; a batch that is not full gets groups of further
    speakers, so that all batches have P x K utterances.

    The order is a function of the seed and the epoch alone. SpeechBrain's
    ``SaveableDataLoader`` can therefore resume within an epoch, the number of
    loader workers does not matter, and under distributed training SpeechBrain
    deals the batches out to the processes.

    Arguments
    ---------
    speakers : list
        The speaker of each item of the dataset, in the dataset's order.
    speakers_per_batch : int
        P, 2 or more.
    utterances_per_speaker : int
        K, 1 or more. With K = 1 the positives come from the augmented views.
    seed : int
        Of the order.
    processes : int
        Among how many SpeechBrain will deal out the batches. Their number
        becomes a multiple, or it would give some to two processes.

    Raises
    ------
    ValueError
        Fewer speakers than P, or an option outside its range.

    Example
    -------
    >>> speakers = ["ann"] * 3 + ["bob"] * 2 + ["cleo"]
    >>> sampler = SpeakerBatchSampler(speakers, 2, 2, seed=0)
    >>> len(sampler)
    2
    >>> sorted({i for batch in sampler for i in batch})  # all are reached
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        speakers,
        speakers_per_batch,
        utterances_per_speaker,
        seed=563375142,
        processes=1,
    ):
        if speakers_per_batch < 2 or utterances_per_speaker < 1:
            raise ValueError(
                f"speakers_per_batch={speakers_per_batch}, "
                f"utterances_per_speaker={utterances_per_speaker}: at least 2 "
                "and 1 are needed"
            )
        names, speaker_of = np.unique(
            np.asarray(speakers, dtype=str), return_inverse=True
        )
        if len(names) < speakers_per_batch:
            raise ValueError(
                f"speakers_per_batch={speakers_per_batch}, but the data has "
                f"{len(names)} speaker(s): lower it to {len(names)} or less"
            )
        self.speakers_per_batch = speakers_per_batch
        self.utterances_per_speaker = utterances_per_speaker
        self.seed = seed
        self.epoch = 0
        count = np.bincount(speaker_of)
        self._utterances = np.split(
            np.argsort(speaker_of, kind="stable"), np.cumsum(count)[:-1]
        )
        self._n_groups = -(-count // utterances_per_speaker)
        # No batch may hold a speaker twice, so the speaker with the most
        # groups can set the number of batches.
        self._n_batches = max(
            -(-self._n_groups.sum() // speakers_per_batch),
            self._n_groups.max(),
        )
        if processes > 1:
            # SpeechBrain cannot deal out a single batch to each.
            shares = max(-(-self._n_batches // processes), 2)
            self._n_batches = shares * processes

    def set_epoch(self, epoch):
        """Chooses the order of the next pass; SpeechBrain calls it.

        Arguments
        ---------
        epoch : int
            The number of the epoch.
        """
        self.epoch = epoch

    def __len__(self):
        return int(self._n_batches)

    def __iter__(self):
        rng = np.random.default_rng([self.seed, self.epoch])
        speakers = [[] for _ in range(len(self))]
        self._spread_groups(speakers, rng)
        self._fill_up(speakers, rng)
        queues = [[] for _ in self._utterances]
        for batch in speakers:
            indices = []
            for speaker in batch:
                if not queues[speaker]:
                    queues[speaker] = self._cut(speaker, rng)
                indices.extend(queues[speaker].pop())
            yield indices

    def _spread_groups(self, speakers, rng):
        """Deals the groups to random batches, all equally full, in place.

        Batches are drawn from a shuffled pool that is refilled when it is
        empty, so no two batches differ by more than one group.
        """
        pool = list(rng.permutation(len(speakers)))
        for speaker in rng.permutation(len(self._utterances)):
            n_groups = self._n_groups[speaker]
            drawn, pool = pool[:n_groups], pool[n_groups:]
            if len(drawn) < n_groups:
                taken = set(drawn)
                fresh = list(rng.permutation(len(speakers)))
                others = [b for b in fresh if b not in taken]
                n_missing = n_groups - len(drawn)
                drawn = drawn + others[:n_missing]
                taken_now = set(others[:n_missing])
                pool = [b for b in fresh if b not in taken_now]
            for batch in drawn:
                speakers[batch].append(speaker)

    def _fill_up(self, speakers, rng):
        """Adds further speakers to the batches that are not full, in place."""
        for batch in speakers:
            n_missing = self.speakers_per_batch - len(batch)
            if n_missing > 0:
                others = np.setdiff1d(np.arange(len(self._utterances)), batch)
                batch.extend(rng.choice(others, n_missing, replace=False))

    def _cut(self, speaker, rng):
        """One shuffled pass over a speaker's utterances, in groups of K."""
        k = self.utterances_per_speaker
        own = rng.permutation(self._utterances[speaker])
        n_missing = -len(own) % k
        # The others first, so that the fill does not repeat within its group.
        rest = own[: max(len(own) - (k - n_missing), 0)]
        fill = rng.permutation(rest)[:n_missing]
        while len(fill) < n_missing:
            fill = np.append(
                fill, rng.permutation(own)[: n_missing - len(fill)]
            )
        return [
            group.tolist() for group in np.append(own, fill).reshape(-1, k)
        ][::-1]
