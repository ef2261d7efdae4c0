"""Wrong labels: found by the classifier's cosines, left out of the training."""

import torch

from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_scl.attention import class_cosines
from speechbrain_scl.data.manifest import write_csv
from speechbrain_scl.distributed import (
    all_reduce_max,
    all_reduce_sum,
    unwrapped,
)
from speechbrain_scl.errors import UserError

logger = get_logger(__name__)


class LabelCleaner:
    r"""Finds utterances with wrong labels, and leaves them out of the losses.

    With f_i the embedding of utterance i and c_k the vector of class k, of
    unit length, the margin of i in class y is

        m_i(y) = f_i . c_y - max_{k != y} f_i . c_k,

    the exponent of ``ClassAwareAttention`` before it is cut at 0. It is
    averaged over the views of each epoch, and over the epochs with weights
    that fall by 0.9: one epoch's margin says little.

    How low is the margin of a wrong label? Each utterance is watched in a
    second class too, r_i, drawn at random among those of other speakers. That
    label is wrong, and no loss learns it. Suspected is i with

        mean m_i(y_i) < min(0, the ``quantile`` of all mean m_j(r_j)),

    a limit that follows the training: where labels are right, hardly any is
    suspected once the encoder knows the speakers; a higher quantile suspects
    more, wrong and right. ``after`` so many epochs (None: never) the suspected
    weigh nothing in any loss. They are watched on ``until`` the epoch in which
    wrong labels begin to be learnt by heart, and decided anew at the end of
    each epoch, by all processes alike.
    """

    def __init__(self, after=None, quantile=0.99, until=16):
        if (after is not None and after < 1) or not 0 < quantile < 1:
            raise UserError(
                f"label_cleaner: after={after} is at least one epoch or null, "
                f"quantile={quantile} lies between 0 and 1"
            )
        self.after, self.quantile, self.until = after, quantile, until

    def start(self, ids, speakers, classes):
        """Before the training: all utterances, their speakers and classes."""
        self._ids, self._speakers = list(ids), list(speakers)
        self._place = {utt_id: i for i, utt_id in enumerate(ids)}
        self._name = dict(zip(classes, speakers, strict=True))
        n, self._n_classes = len(ids), len(self._name)
        generator = torch.Generator().manual_seed(0)
        turn = torch.randint(1, self._n_classes, (n,), generator=generator)
        own = torch.tensor(classes)
        self._watched = torch.stack([own, (own + turn) % self._n_classes])
        # Both margins and the views, summed over the epoch so far; the same,
        # averaged over the earlier ones
        self.sums = torch.zeros(3, n, dtype=torch.float64)
        self.means = torch.zeros(3, n, dtype=torch.float64)
        # The best other class of the epoch, and of most of the earlier ones
        self.best_now = torch.full((n,), -1)
        self.best, self.votes = self.best_now.clone(), torch.zeros(n)
        self.suspected = torch.zeros(n, dtype=torch.bool)
        self.epochs = 0

    def __call__(self, ids, embeddings, labels, classifier):
        """Watches the views of a batch, [views * batch, ...] one after the
        other, by the classifier's ``weight``; gives back the embeddings and
        labels that count: all, where that would be none."""
        places = torch.tensor([self._place[utt_id] for utt_id in ids])
        places = places.repeat(len(labels) // len(ids))
        if self.epochs < self.until:
            self._watch(places, embeddings, unwrapped(classifier).weight)
        kept = (~self.suspected[places]).nonzero().squeeze(1)
        only_watches = self.after is None or self.epochs < self.after
        if only_watches or not 0 < len(kept) < len(labels):
            return embeddings, labels
        there = kept.to(embeddings.device, non_blocking=True)
        return embeddings.index_select(0, there), labels[kept.to(labels.device)]

    @torch.no_grad()
    def _watch(self, places, embeddings, vectors):
        device = embeddings.device
        own, drawn = self._watched[:, places].to(device, non_blocking=True)
        places = places.to(device, non_blocking=True)
        # A class without a speaker is nobody's best.
        vectors = vectors[: self._n_classes].float()
        with torch.autocast(device.type, enabled=False):
            cosines = class_cosines(embeddings.flatten(1).float(), vectors)
        (first, second), (best, next_best) = (x.T for x in cosines.topk(2))

        def margin(label):
            at_label = cosines.gather(1, label[:, None]).squeeze(1)
            return at_label - torch.where(best == label, second, first)

        rows = torch.stack([margin(own), margin(drawn), torch.ones_like(first)])
        # A batch that has no finite loss leaves nothing here either.
        rows = torch.where(rows.isfinite().all(0), rows, 0.0).double()
        self.sums = self.sums.to(device).index_add_(1, places, rows)
        # Of several views the largest number: as good as any, and always it
        self.best_now = self.best_now.to(device).scatter_reduce_(
            0, places, torch.where(best == own, next_best, best), "amax"
        )

    def end_epoch(self):
        """Takes the epoch's margins in, and decides who is suspected."""
        self.epochs += 1
        if self.epochs > self.until:
            return
        sums = all_reduce_sum(self.sums).cpu()
        best = all_reduce_max(self.best_now).cpu()
        # They stay where the batches are, as do messages between processes.
        self.sums = torch.zeros_like(self.sums)
        self.best_now = torch.full_like(self.best_now, -1)
        seen = sums[2] > 0
        now = sums[:, seen] / sums[2, seen]
        self.means[:, seen] = 0.9 * self.means[:, seen] + now
        # The majority of the epochs (Boyer and Moore's vote)
        agrees = best == self.best
        new = seen & ~agrees & (self.votes <= 0)
        self.best = torch.where(new, best, self.best)
        self.votes += torch.where(agrees | new, 1, -1) * seen

        margins, of_drawn = self.means[:2] / self.means[2]
        limit = of_drawn.nanquantile(self.quantile).clamp_max(0.0)
        self.suspected = margins < limit
        found = f"{self.suspected.sum()} of {len(self._ids)} utterances"
        logger.info("Epoch %d: %s may have wrong labels", self.epochs, found)

    def suspects(self):
        """(Utterance, speaker, best other speaker, mean margin), worst first."""
        margins = (self.means[0] / self.means[2]).tolist()
        places = self.suspected.nonzero().flatten().tolist()
        best = [self._name[number] for number in self.best[places].tolist()]
        rows = [
            (self._ids[i], self._speakers[i], speaker, round(margins[i], 4))
            for i, speaker in zip(places, best)
        ]
        return sorted(rows, key=lambda row: row[3])

    def write_suspects(self, path):
        """Writes them as CSV, for a look and for a second training."""
        columns = ["utterance", "speaker", "best_speaker", "margin"]
        write_csv(path, columns, self.suspects())

    def save(self, path):
        """Writes what was seen, of all processes; each one takes part."""
        names = "means", "best", "votes", "suspected", "epochs"
        state = {name: getattr(self, name) for name in names}
        state["sums"] = all_reduce_sum(self.sums).cpu()
        state["best_now"] = all_reduce_max(self.best_now).cpu()
        if if_main_process():
            torch.save(state, path)

    def load(self, path, end_of_epoch):
        """Goes on from a file, of an epoch's end or not."""
        vars(self).update(torch.load(path, weights_only=True))
        # The sums are of all processes together, so one of them has them.
        if not if_main_process():
            self.sums.zero_()
