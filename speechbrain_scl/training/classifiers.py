"""Classifiers by cosines: several centres of a speaker, or many speakers."""

import torch

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.attention import class_cosines


class SampledClassifier(Classifier):
    """SpeechBrain's ``Classifier``, in training by a sample of the classes.

    Partial FC (An et al., CVPR 2022, arXiv 2203.15565): each step, of each
    process, compares the embeddings with the classes of the batch and, drawn at
    random without replacement, as many others as make ``rate`` of all. The loss
    is that of a classifier of these classes alone, and an attention by these
    outputs notices a wrong label only where the class that it resembles was
    drawn. The gradient of the other classes is zero, but dense: an optimiser
    with momentum or weight decay moves them too.
    """

    def __init__(self, input_size, out_neurons, rate=0.1):
        super().__init__(input_size, out_neurons=out_neurons)
        if not 0 < rate <= 1:
            raise ValueError(f"rate={rate}: it must lie in (0, 1]")
        self.rate = rate

    def forward(self, embeddings, labels=None):
        """Embeddings [N, 1, D] to cosines [N, 1, C]; with labels [N] or [N, 1]
        to those of S >= N sampled classes [N, 1, S], and the labels' places
        among them."""
        if labels is None:
            return super().forward(embeddings)
        n_classes = len(self.weight)
        n_sampled = max(round(self.rate * n_classes), labels.numel())
        if n_sampled >= n_classes:
            return super().forward(embeddings), labels
        # Numbers from 0 to 1, but for those that must be among the largest:
        # all shapes are known, so the host need not wait for the device.
        draw = torch.rand(n_classes, device=labels.device)
        draw.index_fill_(0, labels.flatten(), 2.0)
        classes = draw.topk(n_sampled, sorted=False).indices.sort().values
        vectors = self.weight.index_select(0, classes)
        cosines = class_cosines(embeddings.flatten(1), vectors)[:, None]
        return cosines, torch.searchsorted(classes, labels)


class SubCentreClassifier(torch.nn.Module):
    """Cosines to the nearest of several centres of each class.

    With c_{kj} centre j of class k and f the embedding, all of unit length,

        output_k = max_j f . c_{kj}

    so that wrongly labelled or unusual utterances of a speaker gather at a
    centre of their own (Deng et al., "Sub-center ArcFace", ECCV 2020).
    """

    def __init__(self, input_size, out_neurons, n_centres=3):
        super().__init__()
        if n_centres < 1:
            raise ValueError(f"n_centres={n_centres}: at least 1")
        self.weight = torch.nn.Parameter(
            torch.empty(out_neurons, n_centres, input_size)
        )
        torch.nn.init.xavier_uniform_(self.weight.view(-1, input_size))

    def forward(self, embeddings):
        """Embeddings [N, D] or [N, 1, D] to cosines [N, 1, C]."""
        return class_cosines(embeddings.flatten(1), self.weight)[:, None]
