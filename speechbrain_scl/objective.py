"""The training objective: classification, contrast, attention, balancing."""

import torch

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.distributed import all_reduce_sum, unwrapped, world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.training.classifiers import (
    SampledClassifier,
    SubCentreClassifier,
)


class Objective(torch.nn.Module):
    r"""Classification and contrast of embeddings, balanced by their gradients.

    With the weights w that the balancer finds at the embedding,

        L = w_1 L_classification + w_2 L_contrastive

    (Li, Mak and Meng, ICASSP 2023, arXiv 2210.16622); without ``contrastive``
    the loss is that of ``classification``, to the bit. All is computed in
    float32: half precision costs a classifier of many classes up to some per
    cent of its gradient. Under DDP it is the mean over all processes'
    utterances; to leave some out, hand over the rest.

    Arguments
    ---------
    classification : Callable
        (outputs of the classifier, labels) -> 0-dim loss, e.g. SpeechBrain's
        ``LogSoftmaxWrapper``: outputs [N, 1, C] with labels [N, 1], or
        [N, C] with [N].
    contrastive : Callable or None
        (embeddings [N, D], labels [N], attention [N] or None) -> 0-dim loss,
        e.g. ``SupConMarginLoss``.
    attention : Callable or None
        (embeddings [N, D], labels [N], class vectors [C, D]) -> [N], e.g.
        ``ClassAwareAttention``, which shares the classifier's cosines.
    balancer : speechbrain_scl.balancing.Balancer or None
        Required with ``contrastive``.

    Example
    -------
    >>> from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    >>> from speechbrain.nnet import losses
    >>> from speechbrain_scl.balancing import MinNormBalancer
    >>> from speechbrain_scl.losses import SupConMarginLoss
    >>> aam = losses.LogSoftmaxWrapper(losses.AdditiveAngularMargin(0.2, 30))
    >>> balancer = MinNormBalancer("l2", preference=[5, 1])
    >>> objective = Objective(aam, SupConMarginLoss(), balancer=balancer)
    >>> encoder, classifier = torch.nn.Linear(6, 4), Classifier(4)
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> loss = objective(encoder(torch.randn(4, 6)), labels, classifier)
    >>> loss.backward()
    >>> sorted(objective.log)[:2]
    ['classification', 'contrastive']
    """

    def __init__(
        self, classification, contrastive=None, attention=None, balancer=None
    ):
        super().__init__()
        if classification is None:
            raise UserError("objective: it needs a classification loss")
        if contrastive is not None and balancer is None:
            raise UserError(
                "objective: contrastive needs a balancer, such as "
                "speechbrain_scl.balancing.FixedBalancer for equal weights"
            )
        self.classification = classification
        self.contrastive = contrastive
        self.attention = attention
        self.balancer = balancer
        self.log = {}

    def forward(
        self, embeddings, labels, classifier, parameters=None, scaler=None
    ):
        """The 0-dim loss to go backward from; ``log`` holds what it is made of.

        Arguments
        ---------
        embeddings : torch.Tensor
            [N, D] or [N, 1, D], any floating type.
        labels : torch.Tensor
            Integer classes, [N] or [N, 1]; on the host, nothing waits.
        classifier : torch.nn.Module
            Embeddings -> outputs of ``classification``; ``weight`` holds the
            class vectors for ``attention``.
        parameters : list of torch.nn.Parameter or None
            The encoder's, to balance there (exact MGDA), not at the embedding.
        scaler : torch.amp.GradScaler or None
            That of the backward pass; half precision loses small gradients.
        """
        self.log = {}
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype != torch.float64:
                embeddings = embeddings.float()
            there = labels.to(embeddings.device, non_blocking=True)
            if isinstance(unwrapped(classifier), SampledClassifier):
                outputs, columns = classifier(embeddings, there)
            else:
                outputs, columns = classifier(embeddings), there
            classification = self.classification(
                outputs, columns.view(outputs.shape[:-1])
            )
            # DDP averages over the processes: each by how many it holds.
            n = torch.full_like(classification.detach(), len(embeddings))
            share = n * world_size() / all_reduce_sum(n)
            classification = share * classification
            if self.contrastive is None:
                return classification
            if torch.is_grad_enabled() and not embeddings.requires_grad:
                raise UserError(
                    "objective: the embeddings have no gradient for contrast: "
                    "unfreeze the encoder, or take contrastive: null"
                )
            attention = self._attention(
                embeddings, there, classifier, outputs, columns
            )
            contrastive = self.contrastive(embeddings, labels, attention)
            # A common factor does not change the weights.
            scale = torch.ones_like(classification)
            if scaler is not None:
                scale = scaler.scale(scale)
            weights, gram = self.balancer.balance(
                [scale * classification, scale * contrastive],
                embeddings if parameters is None else parameters,
            )
            same = labels.view(-1, 1) == labels.flatten()
            self.log = {
                "classification": classification.detach(),
                "contrastive": contrastive.detach(),
                "weight_classification": weights[0],
                "weight_contrastive": weights[1],
                "positive_pairs": (same.sum() - len(labels)) / 2,
            }
            if attention is not None:
                self.log["attention"] = attention.detach().mean()
            if gram is not None:
                norms = gram.diagonal().sqrt() / scale
                self.log["grad_norm_classification"] = norms[0]
                self.log["grad_norm_contrastive"] = norms[1]
            return weights[0] * classification + weights[1] * contrastive

    def _attention(self, embeddings, labels, classifier, outputs, columns):
        if self.attention is None:
            return None
        classifier = unwrapped(classifier)
        gives_cosines = isinstance(classifier, Classifier | SubCentreClassifier)
        if gives_cosines and hasattr(self.attention, "of_cosines"):
            return self.attention.of_cosines(outputs, columns)
        if not hasattr(classifier, "weight"):
            raise UserError(
                f"objective: attention needs class vectors, but "
                f"{type(classifier).__name__} has no `weight`: choose "
                "attention: null, or AAM-softmax with "
                "speechbrain.lobes.models.ECAPA_TDNN.Classifier"
            )
        return self.attention(embeddings, labels, classifier.weight)
