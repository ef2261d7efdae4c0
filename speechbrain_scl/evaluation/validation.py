"""The error rate that a training run is watched by."""

from collections import Counter

import torch
import torch.nn.functional as F

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import eer

# Utterances: their pairs, 4.5 million, are scored in a second.
_MOST = 3000


class VerificationErrorStats:
    """The equal error rate over all pairs of utterances.

    Used as SpeechBrain's ``MetricStats``, on embeddings. Of many utterances,
    3,000 are paired, spread over the speakers."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forgets all utterances."""
        self.embeddings, self.speakers = [], []

    def append(self, ids, embeddings, speakers):
        """Adds embeddings [batch, dim] or [batch, 1, dim], of any length."""
        self.embeddings.append(embeddings.flatten(1).float())
        self.speakers.extend(speakers)

    def summarize(self, field=None):
        """The error rate so far, as a dict or of one field (``EER``)."""
        classes = {name: i for i, name in enumerate(self.speakers)}
        speakers = torch.tensor([classes[name] for name in self.speakers])
        embeddings = torch.cat(self.embeddings or [torch.empty(0, 1)])
        embeddings = F.normalize(embeddings).cpu()
        if len(speakers) > _MOST:
            kept = spread(speakers.tolist(), _MOST)
            embeddings, speakers = embeddings[kept], speakers[kept]
        first, second = torch.triu_indices(len(speakers), len(speakers), 1)
        scores = (embeddings @ embeddings.T)[first, second]
        labels = speakers[first] == speakers[second]
        if labels.all() or not labels.any():
            raise UserError(
                f"validation needs pairs of the same and of different "
                f"speakers, but has {len(speakers)} utterance(s) of "
                f"{len(classes)} speaker(s): raise valid_speakers"
            )
        found = {"EER": eer(scores, labels)[0]}
        return found if field is None else found[field]


def spread(speakers, most):
    """The first utterances of every speaker, then the second ones, ..."""
    seen, rounds = Counter(), []
    for speaker in speakers:
        rounds.append(seen[speaker])
        seen[speaker] += 1
    return sorted(range(len(rounds)), key=rounds.__getitem__)[:most]
