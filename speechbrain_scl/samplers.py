"""Batches of P speakers x K utterances."""

import os

import numpy as np
from torch.utils.data import Sampler

from speechbrain_scl.errors import UserError


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

    With ``spread_over``, a speaker's K utterances come from different
    sessions (or genres, or languages): pairs within one recording teach its
    channel along with the voice. A session comes twice in a group only where
    its speaker has fewer than K sessions, or where the session has more
    utterances than the speaker has groups.

    Arguments
    ---------
    speakers : list
        The speaker of each item of the dataset, in the dataset's order.
    speakers_per_batch : int
        P, 2 or more.
    utterances_per_speaker : int
        K, 1 or more. With K = 1 the positives come from the augmented views.
    seed : int or None
        None takes the one of ``speechbrain.utils.seed_everything``.
    epoch : int
        The epoch to start at; ``set_epoch`` changes it.
    processes : int
        Among how many SpeechBrain will deal out the batches. Their number
        becomes a multiple, or it would give some to two processes.
    spread_over : list or None
        The session (genre, language, ...) of each item, in the dataset's
        order.

    Raises
    ------
    UserError
        Fewer speakers than P, an option outside its range, or a
        ``spread_over`` of another length.

    Example
    -------
    >>> speakers = ["ann"] * 3 + ["bob"] * 2 + ["cleo"]
    >>> sampler = SpeakerBatchSampler(speakers, 2, 2, seed=0)
    >>> len(sampler)
    2
    >>> sorted({i for batch in sampler for i in batch})  # all are reached
    [0, 1, 2, 3, 4, 5]
    >>> days = ["mo", "mo", "tu", "tu"] * 2
    >>> speakers = ["ann"] * 4 + ["bob"] * 4
    >>> sampler = SpeakerBatchSampler(speakers, 2, 2, spread_over=days)
    >>> [len({days[i] for i in batch[:2]}) for batch in sampler]
    [2, 2]
    """

    def __init__(
        self,
        speakers,
        speakers_per_batch: int,
        utterances_per_speaker: int,
        seed=None,
        epoch: int = 0,
        processes: int = 1,
        spread_over=None,
    ):
        if speakers_per_batch < 2 or utterances_per_speaker < 1:
            raise UserError(
                f"speakers_per_batch={speakers_per_batch}, "
                f"utterances_per_speaker={utterances_per_speaker}: at least 2 "
                "and 1 are needed"
            )
        names, speaker_of = np.unique(
            np.asarray(speakers, dtype=str), return_inverse=True
        )
        if len(names) < speakers_per_batch:
            raise UserError(
                f"speakers_per_batch={speakers_per_batch}, but the data has "
                f"{len(names)} speaker(s): lower it to {len(names)} or less"
            )
        if seed is None:
            seed = os.environ.get("SB_GLOBAL_SEED", 563375142)
        self.speakers_per_batch = speakers_per_batch
        self.utterances_per_speaker = utterances_per_speaker
        self.seed = int(seed)
        self.epoch = epoch
        count = np.bincount(speaker_of)
        self._utterances = np.split(
            np.argsort(speaker_of, kind="stable"), np.cumsum(count)[:-1]
        )
        self._n_groups = -(-count // utterances_per_speaker)
        self._session_of = None
        if spread_over is not None:
            if len(spread_over) != len(speaker_of):
                raise UserError(
                    f"spread_over has {len(spread_over)} values for "
                    f"{len(speaker_of)} utterances"
                )
            _, self._session_of = np.unique(
                np.asarray(spread_over, dtype=str), return_inverse=True
            )
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
        """Chooses the order of the next pass; SpeechBrain calls it."""
        self.epoch = epoch

    def __len__(self):
        return int(self._n_batches)

    def __iter__(self):
        rng = np.random.default_rng([self.seed, self.epoch])
        speakers = self._deal(rng)
        queues = [[] for _ in self._utterances]
        cut = self._cut if self._session_of is None else self._cut_across
        for batch in speakers:
            indices = []
            for speaker in batch:
                if not queues[speaker]:
                    queues[speaker] = cut(speaker, rng)
                indices.extend(queues[speaker].pop())
            yield indices

    def _deal(self, rng):
        """The speakers of each batch.

        The groups go to random batches, drawn from a shuffled pool that is
        refilled when it is empty, so that no two batches differ by more than
        one group; further speakers fill those that are not full.
        """
        speakers = [[] for _ in range(len(self))]
        pool = rng.permutation(len(speakers))[::-1].tolist()  # its end is next
        for speaker in rng.permutation(len(self._utterances)):
            n_groups = self._n_groups[speaker]
            drawn = pool[: -n_groups - 1 : -1]
            del pool[-n_groups:]
            if len(drawn) < n_groups:
                before = set(drawn)
                fresh = rng.permutation(len(speakers)).tolist()
                others = [b for b in fresh if b not in before]
                drawn += others[: n_groups - len(drawn)]
                now = set(drawn) - before
                pool = [b for b in fresh[::-1] if b not in now]
            for batch in drawn:
                speakers[batch].append(speaker)
        for batch in speakers:
            n_missing = self.speakers_per_batch - len(batch)
            if n_missing > 0:
                others = np.setdiff1d(np.arange(len(self._utterances)), batch)
                batch.extend(rng.choice(others, n_missing, replace=False))
        return speakers

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
        groups = np.append(own, fill).reshape(-1, k)
        return [group.tolist() for group in groups][::-1]

    def _cut_across(self, speaker, rng):
        """As ``_cut``, each group from as many sessions as there can be."""
        own = rng.permutation(self._utterances[speaker])
        sessions, session = np.unique(
            self._session_of[own], return_inverse=True
        )
        session = rng.permutation(len(sessions))[session]
        of = dict(zip(own.tolist(), session.tolist()))
        # Session after session dealt out in turn: no group gets one twice
        # before all have it.
        order = own[np.argsort(session, kind="stable")].tolist()
        n_groups = self._n_groups[speaker]
        groups = [order[first::n_groups] for first in range(n_groups)]
        for group in groups:
            while len(group) < self.utterances_per_speaker:
                group.append(_least_like(group, rng.permutation(own), of))
        return [groups[i] for i in rng.permutation(n_groups)]


def _least_like(group, candidates, session_of):
    """The candidate, and then the session, that a group has least often."""
    sessions = [session_of[i] for i in group]
    return min(
        candidates.tolist(),
        key=lambda i: (group.count(i), sessions.count(session_of[i])),
    )


class NearSpeakerBatchSampler(SpeakerBatchSampler):
    """As ``SpeakerBatchSampler``, with near speakers in one batch.

    The share ``hard``, in (0, 1], of a batch's speakers are near one another by
    ``near_order``, once ``find_near`` has set it: batches exchange speakers,
    so that an epoch has the same batches' number and size, and the same
    utterances, as without. The order is a function of ``near_order`` as well.
    """

    def __init__(self, speakers, *arguments, hard, **options):
        super().__init__(speakers, *arguments, **options)
        if not 0 < hard <= 1:
            raise UserError(f"hard={hard}: a share of a batch, 0 to 1")
        self.hard = hard
        self.names = np.unique(np.asarray(speakers, dtype=str)).tolist()
        self.near_order = None

    def _deal(self, rng):
        speakers = super()._deal(rng)
        if self.near_order is not None:
            self._bring_together(speakers, rng)
        return speakers

    def find_near(self, vectors):
        """Finds which speakers are near by vectors [S, D] of ``names``, in that
        order: ``near_order``, the leaves of a random projection tree one after
        the other, in O(S log S).

        A node is cut at the median of its speakers' projections on the line
        between two of them (after Dasgupta and Freund, STOC 2008). Whoever
        resumes within an epoch keeps ``near_order``, as the vectors change;
        processes share it.
        """
        if len(vectors) != len(self.names):
            raise UserError(
                f"{len(vectors)} vectors for {len(self.names)} speakers"
            )
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        vectors = np.asarray(vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, 1e-30)
        nodes, order = [(np.arange(len(vectors)), vectors)], []
        while nodes:
            index, vectors = nodes.pop()
            if len(index) <= self._n_near:
                order.append(index)
                continue
            first, second = rng.choice(len(index), 2, replace=False)
            along = vectors @ (vectors[first] - vectors[second])
            halves = np.argpartition(along, len(index) // 2)
            for half in np.split(halves, [len(index) // 2]):
                nodes.append((index[half], vectors[half]))
        self.near_order = np.concatenate(order)

    @property
    def _n_near(self):
        return max(round(self.hard * self.speakers_per_batch), 2)

    def _bring_together(self, speakers, rng):
        """Exchanges speakers between batches, in place: to each batch come
        the neighbours in ``near_order`` of one of its speakers."""
        place = np.argsort(self.near_order)
        held = [set(batch) for batch in speakers]
        kept = [set() for _ in speakers]  # the near ones of each batch
        where = [[] for _ in self.names]
        for batch, of_batch in enumerate(speakers):
            for speaker in of_batch:
                where[speaker].append(batch)
        for batch in rng.permutation(len(speakers)).tolist():
            centre = place[rng.choice(speakers[batch])]
            for near in _around(self.near_order, centre, 4 * self._n_near):
                if len(kept[batch]) >= self._n_near:
                    break
                if near not in held[batch]:
                    for other in rng.permutation(where[near])[:4].tolist():
                        leaving = held[batch] - kept[batch] - held[other]
                        if near not in kept[other] and leaving:
                            far = rng.choice(sorted(leaving)).item()
                            for here, there, one in (
                                (batch, other, near),
                                (other, batch, far),
                            ):
                                held[here].add(one)
                                held[there].remove(one)
                                where[one].remove(there)
                                where[one].append(here)
                            break
                if near in held[batch]:
                    kept[batch].add(near)
        speakers[:] = map(sorted, held)


def _around(order, centre, n):
    """n of an order by their distance from a place, itself first."""
    first = max(centre - n // 2, 0)
    places = np.arange(first, min(first + n, len(order)))
    nearest = np.argsort(abs(places - centre), kind="stable")
    return order[places[nearest]].tolist()
