"""Several centres per speaker, against the double loop and the single one."""

import torch

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.training.classifiers import SubCentreClassifier


def test_the_nearest_centre_counts():
    torch.manual_seed(0)
    classifier = SubCentreClassifier(5, out_neurons=4, n_centres=3)
    embeddings = torch.randn(6, 1, 5)
    found = classifier(embeddings)
    for i, f in enumerate(embeddings[:, 0]):
        for k, centres in enumerate(classifier.weight):
            cosines = [torch.cosine_similarity(f, c, dim=0) for c in centres]
            torch.testing.assert_close(found[i, 0, k], max(cosines))


def test_one_centre_is_speechbrains_classifier():
    ours, theirs = SubCentreClassifier(5, 4, 1), Classifier(5, out_neurons=4)
    theirs.weight.data = ours.weight.data[:, 0]
    embeddings = torch.randn(6, 1, 5)
    torch.testing.assert_close(ours(embeddings), theirs(embeddings))


def test_the_attention_goes_by_the_nearest_centre():
    """Classes whose other centres are far away attend as if they had none."""
    torch.manual_seed(0)
    embeddings, labels = torch.randn(6, 5), torch.arange(6) % 4
    weight = torch.randn(4, 5)
    far = -embeddings.mean(0).expand(4, 1, 5)
    attention = ClassAwareAttention()
    nearest = torch.cat([weight[:, None], weight[:, None], far], dim=1)
    cosines = torch.nn.functional.normalize(embeddings) @ (
        torch.nn.functional.normalize(far[0, 0], dim=0)
    )
    direct = torch.nn.functional.normalize(embeddings) @ (
        torch.nn.functional.normalize(weight).T
    )
    weight_counts = (direct > cosines[:, None]).all(1)
    assert weight_counts.any()
    torch.testing.assert_close(
        attention(embeddings, labels, nearest)[weight_counts],
        attention(embeddings, labels, weight)[weight_counts],
    )
