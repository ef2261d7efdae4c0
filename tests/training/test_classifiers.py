"""Several centres per speaker, against the double loop and the single one;
a sample of the classes, against all and against the sampled ones by hand."""

import torch
from small_brain import aam

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.training.classifiers import (
    SampledClassifier,
    SubCentreClassifier,
)


def test_the_nearest_centre_counts():
    torch.manual_seed(0)
    classifier = SubCentreClassifier(5, out_neurons=4, n_centres=3)
    embeddings = torch.randn(6, 1, 5)
    found = classifier(embeddings)
    for i, f in enumerate(embeddings[:, 0]):
        for k, centres in enumerate(classifier.weight):
            cosines = [torch.cosine_similarity(f, c, dim=0) for c in centres]
            torch.testing.assert_close(found[i, 0, k], max(cosines))


def test_the_attention_goes_by_the_nearest_centre():
    classifier = SubCentreClassifier(5, out_neurons=4, n_centres=3)
    embeddings, labels = torch.randn(6, 5), torch.arange(6) % 4
    attention = ClassAwareAttention()
    torch.testing.assert_close(
        attention(embeddings, labels, classifier.weight),
        attention.of_cosines(classifier(embeddings), labels),
    )


# ---- a sample of the classes -----------------------------------------------


def case(rate, n_classes=40):
    torch.manual_seed(0)
    embeddings = torch.randn(6, 1, 5, requires_grad=True)
    labels = torch.tensor([[39], [3], [17], [3], [0], [39]])
    return SampledClassifier(5, n_classes, rate), embeddings, labels


def test_all_classes_are_speechbrains_classifier_to_the_bit():
    ours, embeddings, labels = case(rate=1.0)
    theirs = Classifier(5, out_neurons=40)
    theirs.load_state_dict(ours.state_dict())
    found, places = ours(embeddings, labels)
    wanted = theirs(embeddings)
    assert torch.equal(found, wanted) and torch.equal(places, labels)
    assert torch.equal(ours(embeddings), wanted)
    gradients = [
        torch.autograd.grad(aam()(c, labels), (embeddings, m.weight))
        for c, m in ((found, ours), (wanted, theirs))
    ]
    assert all(map(torch.equal, *gradients))


def test_loss_and_gradient_are_those_of_the_sampled_classes():
    classifier, embeddings, labels = case(rate=0.3)
    cosines, places = classifier(embeddings, labels)
    assert cosines.shape == (6, 1, 12)
    # Which they are: the columns of the full classifier's output.
    full = Classifier.forward(classifier, embeddings)
    same = torch.isclose(cosines[:, 0, :, None], full[:, 0, None]).all(0)
    assert (same.sum(1) == 1).all()
    classes = same.float().argmax(1)
    assert len(set(classes.tolist())) == 12
    assert torch.equal(classes[places], labels)

    logits = []
    for row, label in zip(full[:, 0], labels[:, 0], strict=True):
        angles = row.clamp(-1 + 1e-7, 1 - 1e-7).acos()
        margins = 0.2 * (torch.arange(40) == label)
        logits.append(30 * (angles + margins).cos()[classes])
    log_p = torch.stack(logits).log_softmax(1)
    wanted = -log_p.gather(1, places).mean()
    found = aam()(cosines, places)
    torch.testing.assert_close(found, wanted)
    inputs = embeddings, classifier.weight
    gradients = [torch.autograd.grad(x, inputs) for x in (found, wanted)]
    for ours, by_hand in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-5)
    left_out = torch.ones(40, dtype=torch.bool).index_fill(0, classes, False)
    assert not gradients[0][1][left_out].any()


def test_each_other_class_is_as_likely():
    classifier, embeddings, labels = case(rate=0.3)
    drawn = torch.zeros(40)
    n = 300
    for _ in range(n):
        weight = classifier.weight
        cosines, _ = classifier(embeddings, labels)
        (gradient,) = torch.autograd.grad(cosines.sum(), weight)
        drawn += gradient.any(1)
    own = labels.unique()
    assert (drawn[own] == n).all()
    # 8 others out of 36; five standard deviations
    others = torch.ones(40, dtype=torch.bool).index_fill(0, own, False)
    share, p = drawn[others] / n, 8 / 36
    assert (share - p).abs().max() < 5 * (p * (1 - p) / n) ** 0.5
