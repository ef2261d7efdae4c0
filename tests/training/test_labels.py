"""Wrong labels: margins by brute force, who is suspected, and who is left out."""

import numpy as np
import pytest
import torch
from small_brain import objective
from two_processes import results_of

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain_scl.distributed import world_size
from speechbrain_scl.training.labels import LabelCleaner

N, N_CLASSES, DIM = 240, 12, 16
IDS = [f"utterance {i}" for i in range(N)]


def corpus(share=0.1, noise=0.2, seed=0):
    """Classifier, embeddings around its vectors, given and true classes."""
    rng = torch.Generator().manual_seed(seed)
    classifier = Classifier(DIM, out_neurons=N_CLASSES + 3)
    classifier.weight.data = torch.randn(
        N_CLASSES + 3, DIM, generator=rng, dtype=torch.float64
    )
    true = torch.arange(N) % N_CLASSES
    given = true.clone()
    n_wrong = int(share * N)
    given[:n_wrong] = (true[:n_wrong] + 5) % N_CLASSES
    vectors = torch.nn.functional.normalize(classifier.weight.data[true])
    noise = noise * torch.randn(N, DIM, generator=rng, dtype=torch.float64)
    return classifier, (vectors + noise).float(), given, true


def started(given, **options):
    cleaner = LabelCleaner(**options)
    cleaner.start(IDS, [f"speaker {c}" for c in given], given.tolist())
    return cleaner


def epoch(cleaner, classifier, embeddings, given, batch=40, views=2, seed=0):
    """Views of one utterance differ; one comes twice in a batch."""
    rng = torch.Generator().manual_seed(seed)
    seen = []
    for rows in torch.randperm(N, generator=rng).split(batch):
        rows = torch.cat([rows, rows[:1]])
        turns = torch.randn(views * len(rows), DIM, generator=rng)
        z = embeddings[rows].repeat(views, 1) + 0.1 * turns
        cleaner(
            [IDS[i] for i in rows],
            z[:, None],
            given[rows].repeat(views)[:, None],
            classifier,
        )
        seen += zip(rows.repeat(views).tolist(), z, strict=True)
    return seen


def margin(z, vectors, own):
    cosines = vectors @ z / np.linalg.norm(vectors, axis=1) / np.linalg.norm(z)
    return cosines[own] - np.delete(cosines, own).max()


def test_margins_are_those_of_brute_force_over_views_and_epochs():
    classifier, embeddings, given, _ = corpus()
    cleaner = started(given)
    vectors = classifier.weight.detach().numpy()[:N_CLASSES]
    means = np.zeros(N)
    for i in range(3):
        views = [[] for _ in IDS]
        for place, z in epoch(cleaner, classifier, embeddings, given, seed=i):
            own = int(given[place])
            views[place].append(margin(z.double().numpy(), vectors, own))
        means = 0.9 * means + [np.mean(of_one) for of_one in views]
        cleaner.end_epoch()
    means /= 1 + 0.9 + 0.81
    suspects = cleaner.suspects()
    assert suspects
    found = {name: value for name, _, _, value in suspects}
    for name, value in found.items():
        assert value == pytest.approx(means[IDS.index(name)], abs=1e-4)
    # Worst first, and everybody who is worse than the best of them.
    values = list(found.values())
    assert values == sorted(values)
    assert len(found) == (means <= max(values) + 1e-4).sum()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_wrong_labels_are_found_and_right_ones_left_alone(share):
    classifier, embeddings, given, true = corpus(share)
    cleaner = started(given)
    epoch(cleaner, classifier, embeddings, given)
    cleaner.end_epoch()
    wrong = (given != true).numpy()
    suspects = cleaner.suspects()
    found = np.isin(IDS, [s[0] for s in suspects])
    assert found[wrong].mean() > 0.9 if share else not wrong.any()
    assert found[~wrong].mean() < 0.05
    best = {s[0]: s[2] for s in suspects}
    right = [
        best.get(IDS[i]) == f"speaker {true[i]}" for i in np.flatnonzero(wrong)
    ]
    assert not right or np.mean(right) > 0.9


def test_the_suspected_weigh_nothing_but_are_watched():
    classifier, embeddings, given, _ = corpus(0.3)
    cleaner = started(given, after=2, until=22)
    for _ in range(2):
        whole = cleaner(IDS, embeddings, given, classifier)
        assert len(whole[0]) == N
        cleaner.end_epoch()
    suspects = [s[0] for s in cleaner.suspects()]
    out = torch.tensor([name in suspects for name in IDS])
    assert 0 < out.sum() < N
    z = embeddings.clone().requires_grad_()
    classifier.float()
    loss = objective()(*cleaner(IDS, z, given, classifier), classifier)
    loss.backward()
    assert (z.grad[out] == 0).all() and (z.grad[~out] != 0).any(1).all()
    alone = objective()(z[~out], given[~out], classifier)
    torch.testing.assert_close(loss, alone, rtol=0, atol=0)
    # With its right label an utterance comes back.
    now_right = torch.nn.functional.normalize(classifier.weight[given]).detach()
    for _ in range(20):
        cleaner(IDS, now_right, given, classifier)
        cleaner.end_epoch()
    assert not cleaner.suspects()
    cleaner(IDS, -embeddings, given, classifier)  # no longer watched
    cleaner.end_epoch()
    assert not cleaner.suspects() and cleaner.sums.sum() == 0


def test_batches_of_suspected_alone_or_not_finite():
    classifier, embeddings, given, _ = corpus(0.1)
    cleaner = started(given, after=1)
    cleaner(IDS, embeddings, given, classifier)
    sums = cleaner.sums.clone()
    cleaner(IDS[:5], embeddings[:5] * torch.nan, given[:5], classifier)
    assert torch.equal(cleaner.sums, sums)  # nothing is left of it
    cleaner.end_epoch()
    rows = [IDS.index(s[0]) for s in cleaner.suspects()]
    names = [IDS[i] for i in rows]
    z, labels = cleaner(names, embeddings[rows], given[rows], classifier)
    assert len(z) == len(labels) == len(rows) > 0


def halves(rank, folder):
    """A rank's share of two epochs; one of two stops within the second."""
    classifier, embeddings, given, _ = corpus(0.3)
    cleaner = started(given, after=1)
    rows = torch.arange(N)[rank :: world_size()]
    for i in range(2):
        for part in rows.split(len(rows) // 2):
            names = [IDS[j] for j in part]
            z, _ = cleaner(names, embeddings[part], given[part], classifier)
            if i == 1 and world_size() > 1:
                cleaner.save(f"{folder}/state")
                torch.distributed.barrier()  # the checkpointer's
                cleaner = started(given, after=1)
                cleaner.load(f"{folder}/state", end_of_epoch=False)
        cleaner.end_epoch()
    return cleaner.suspects(), cleaner.means


def test_two_processes_suspect_whom_one_does(tmp_path):
    ranks = results_of(halves, tmp_path)
    suspects, means = halves(0, tmp_path)
    assert suspects
    for found in ranks:
        assert found[0] == suspects
        torch.testing.assert_close(found[1], means, rtol=1e-12, atol=1e-12)
