"""Two gloo processes against the single process with the joined batch.

The processes hold different numbers of utterances, and positives that only
the other one has. Each test compares what two ranks computed together (one
spawn for the whole file) with the ordinary computation in this process.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.distributed import all_reduce_sum, gather_rows, world_size
from speechbrain_scl.losses import SupConMarginLoss

N_LOCAL = (5, 8)  # utterances of each rank
NORMALIZE = ("none", "l2", "loss")
CASES = ("plain", "attention", "learnt attention", "no positive", "chunked")


def joined_batch():
    generator = torch.Generator().manual_seed(0)
    n = sum(N_LOCAL)
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    labels[0], labels[-1] = 9, 9  # a pair across the ranks
    weights = torch.rand(n, dtype=torch.float64, generator=generator)
    target = torch.randn(n, 4, dtype=torch.float64, generator=generator)
    return x, labels, weights, target


def encoder():
    torch.manual_seed(1)
    return torch.nn.Linear(6, 4).double()


def contrast(z, labels, weights, case, gather):
    loss = SupConMarginLoss(
        0.2, 0.3, chunk_size=2 if case == "chunked" else None, gather=gather
    )
    if case == "no positive":
        rank = dist.get_rank() if gather else 0
        first = sum(N_LOCAL[:rank])
        labels = torch.arange(len(labels)) + first
    if case in ("plain", "no positive"):
        weights = None
    elif case == "learnt attention":
        weights = torch.sigmoid(z.sum(1))
    return loss(z, labels, weights)


def gradient_of(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def local_rows(rank):
    first = sum(N_LOCAL[:rank])
    return slice(first, first + N_LOCAL[rank])


def on_a_rank(rank, store, results):
    """Everything two processes compute together."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    rows = local_rows(rank)
    x, labels, weights, target = (part[rows] for part in joined_batch())
    found = {"world size": world_size()}

    model = DistributedDataParallel(encoder())
    for case in CASES:
        model.zero_grad()
        loss = contrast(model(x), labels, weights, case, gather=True)
        loss.backward()  # DDP averages over the processes
        found[case, "loss"] = all_reduce_sum(loss.detach()) / world_size()
        found[case, "gradient"] = gradient_of(model)

    for normalize in NORMALIZE:
        model = encoder()
        z = model(x)
        # A mean over the joined batch: DDP averages means of equal batches,
        # so unequal ones are weighed by their sizes.
        share = N_LOCAL[rank] * world_size() / sum(N_LOCAL)
        losses = [
            (z - target).square().mean() * share,
            contrast(z, labels, weights, "plain", gather=True),
        ]
        balancer = MinNormBalancer(normalize)
        for level, shared in levels(z, model):
            found[normalize, level] = balancer(losses, shared)

    local = torch.arange(3 * rank, 3 * rank + 2 + rank)[:, None]
    (joined,), where = gather_rows(local)
    found["gathered"], found["where"] = joined, where
    found["reduced"] = all_reduce_sum(torch.tensor([1.0 + rank]))
    torch.save(found, f"{results}/{rank}.pt")
    dist.destroy_process_group()


def levels(z, model):
    return [("embedding", z), ("parameters", list(model.parameters()))]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, (str(folder / "store"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_gathered_pairs_give_the_joined_batch(ranks, case):
    x, labels, weights, _ = joined_batch()
    model = encoder()
    loss = contrast(model(x), labels, weights, case, gather=False)
    loss.backward()
    for found in ranks:
        torch.testing.assert_close(
            found[case, "loss"], loss.detach(), rtol=1e-6, atol=1e-9
        )
        torch.testing.assert_close(
            found[case, "gradient"], gradient_of(model), rtol=1e-6, atol=1e-9
        )


def test_the_pairs_across_the_ranks_matter(ranks):
    """The same comparison fails where each rank stays with its own pairs."""
    x, labels, weights, _ = joined_batch()
    losses = []
    for rank in (0, 1):
        rows = local_rows(rank)
        z = encoder()(x[rows])
        losses.append(contrast(z, labels[rows], None, "plain", False))
    alone = sum(losses).item() / 2
    assert abs(ranks[0]["plain", "loss"].item() - alone) > 1e-2


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("level", ["embedding", "parameters"])
def test_every_rank_finds_the_weights_of_the_joined_batch(
    ranks, normalize, level
):
    x, labels, weights, target = joined_batch()
    model = encoder()
    z = model(x)
    losses = [
        (z - target).square().mean(),
        contrast(z, labels, weights, "plain", gather=False),
    ]
    shared = dict(levels(z, model))[level]
    expected = MinNormBalancer(normalize)(losses, shared)
    assert 0.01 < expected[0] < 0.99  # not an end, where many agree
    assert torch.equal(ranks[0][normalize, level], ranks[1][normalize, level])
    torch.testing.assert_close(ranks[0][normalize, level], expected)


def test_unequal_rows_are_joined_in_the_order_of_the_ranks(ranks):
    for found in ranks:
        assert found["gathered"].flatten().tolist() == [0, 1, 3, 4, 5]
    assert [found["where"] for found in ranks] == [slice(0, 2), slice(2, 5)]


def test_all_reduce_sum_and_world_size(ranks):
    for found in ranks:
        assert found["reduced"].tolist() == [3.0]
        assert found["world size"] == 2


def test_one_process_needs_no_group():
    rows = torch.randn(3, 2, requires_grad=True)
    (same,), where = gather_rows(rows)
    assert same is rows and where == slice(0, 3)
    assert all_reduce_sum(rows) is rows
    assert world_size() == 1
