"""Two gloo processes against the single process with the joined batch.

The processes hold different numbers of utterances, and positives that only
the other one has. Each test compares what two ranks computed together (one
spawn for the whole file) with the ordinary computation in this process.
"""

import itertools
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import speechbrain as sb
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.distributed import all_reduce_sum, gather_rows, world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective

N_LOCAL = (5, 8)  # utterances of each rank
NORMALIZE = ("none", "l2", "loss")
RESCALES = ("best_class", "max", "mean", "none")
LOSSES = [
    *itertools.product(
        ("angular", "cosine"),
        ("none", "positive", "all_positives"),
        ("negatives", "logits"),
    )
]
ATTENTIONS = [None, *itertools.product(RESCALES, (True, False))]


def joined_batch():
    generator = torch.Generator().manual_seed(0)
    n = sum(N_LOCAL)
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    labels[0], labels[-1] = 9, 9  # a pair across the ranks
    generator.manual_seed(1)
    target = torch.randn(n, 4, dtype=torch.float64, generator=generator)
    return x, labels, target


def encoder():
    torch.manual_seed(1)
    return torch.nn.Linear(6, 4).double()


def contrast(loss_options, attention_options, rows, gather, alone=False):
    """The loss, and the gradients of the encoder and the class vectors."""
    margin_type, denominator, attention_on = loss_options
    loss = SupConMarginLoss(
        0.2,
        0.3,
        margin_type,
        denominator,
        attention_on,
        chunk_size=3 if denominator == "none" else None,
        gather=gather,
    )
    x, labels, _ = (part[rows] for part in joined_batch())
    if alone:
        labels = torch.arange(rows.start, rows.stop)
    model, weights = encoder(), None
    vectors = torch.nn.Parameter(torch.eye(10, 4, dtype=torch.float64) + 0.1)
    z = model(x)
    if attention_options is not None:
        rescale, detach = attention_options
        attention = ClassAwareAttention(
            3.0, rescale=rescale, detach=detach, gather=gather
        )
        weights = attention(z, labels, vectors)
    value = loss(z, labels, weights)
    found = torch.autograd.grad(
        value,
        [*model.parameters(), vectors],
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([value.detach()[None], *(g.flatten() for g in found)])


def gradient_of(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def local_rows(rank):
    first = sum(N_LOCAL[:rank])
    return slice(first, first + N_LOCAL[rank])


class Encoder(torch.nn.Linear):
    """[n, time, 1] -> [n, 1, 4]: a batch of any size, no batch statistics."""

    def forward(self, feats):
        return super().forward(feats.transpose(1, 2))


class Classifier(torch.nn.Linear):
    """Cosines, as ECAPA-TDNN's."""

    def forward(self, x):
        normalize = torch.nn.functional.normalize
        return normalize(x, dim=-1) @ normalize(self.weight).T


class Keep(torch.nn.Module):
    def forward(self, x, lens=None):
        return x.unsqueeze(-1) if lens is None else x


def whole_brain(normalize):
    """The Brain with every objective; the same on every process."""
    torch.manual_seed(2)
    brain = SupConSpeakerBrain(
        modules={
            "compute_features": Keep(),
            "mean_var_norm": Keep(),
            "embedding_model": Encoder(6, 4),
            "classifier": Classifier(4, 10, bias=False),
        },
        opt_class=lambda params: torch.optim.SGD(params, lr=0.1),
        hparams={
            "objective": Objective(
                LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 2)),
                SupConMarginLoss(0.2, 0.3, gather=True),
                ClassAwareAttention(3.0),
                MinNormBalancer(normalize),
            )
        },
        run_opts={
            "max_grad_norm": 1e9,
            "distributed_backend": "gloo",
            "device": "cpu",
        },
    )
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    return brain


def brains_batch(rows, broken=False):
    x, labels, _ = joined_batch()
    x = x.float()
    if broken:
        x[rows.start] = float("nan")
    return PaddedBatch(
        [
            {
                "id": f"utt{i}",
                "sig": x[i],
                "spk_id_encoded": labels[i : i + 1],
            }
            for i in range(rows.start, rows.stop)
        ]
    )


def brains_step(normalize, batch):
    """The gradients of one step, its weights, and the epoch's means."""
    brain = whole_brain(normalize)
    gradients = []
    step = brain.optimizers_step
    brain.optimizers_step = lambda: (
        gradients.append(gradient_of(brain.modules)),
        step(),
    )
    brain.fit_batch(batch)
    return gradients[0], brain.progress.means()


def brains_parameters(brain):
    return torch.cat([p.detach().flatten() for p in brain.modules.parameters()])


def on_a_rank(rank, store, results):
    """Everything two processes compute together."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    rows = local_rows(rank)
    x, labels, target = (part[rows] for part in joined_batch())
    found = {
        case: contrast(*case, rows, gather=True)
        for case in itertools.product(LOSSES, ATTENTIONS)
    }
    found["alone"] = contrast(LOSSES[0], None, rows, True, alone=True)
    # DDP averages over the processes.
    joined = all_reduce_sum(torch.stack(list(found.values()))) / world_size()
    found = dict(zip(found, joined))
    found["world size"] = world_size()

    for normalize in NORMALIZE:
        model = encoder()
        z = model(x)
        # A mean over the joined batch: DDP averages means of equal batches,
        # so unequal ones are weighed by their sizes.
        share = N_LOCAL[rank] * world_size() / sum(N_LOCAL)
        losses = [
            (z - target).square().mean() * share,
            SupConMarginLoss(0.2, 0.3, gather=True)(z, labels),
        ]
        balancer = MinNormBalancer(normalize)
        for level, shared in levels(z, model):
            found[normalize, level] = balancer(losses, shared)

    for normalize in NORMALIZE:
        found["brain", normalize] = brains_step(normalize, brains_batch(rows))
    brain = whole_brain("none")
    brain.nonfinite_patience = 1
    before = brains_parameters(brain)
    broken = brains_batch(rows, broken=rank == 1)
    brain.fit_batch(broken)
    after = brains_parameters(brain)
    found["left out"] = torch.equal(before, after), brain.nonfinite_count
    try:
        brain.fit_batch(broken)
    except UserError:
        found["stopped"] = True

    local = torch.arange(3 * rank, 3 * rank + 2 + rank)[:, None]
    (joined,), where = gather_rows(local)
    found["gathered"], found["where"] = joined, where
    found["reduced"] = all_reduce_sum(torch.tensor([1.0 + rank]))
    torch.save(found, f"{results}/{rank}.pt")
    dist.barrier()
    # The threads of gloo may abort a process that ends as usual.
    os._exit(0)


def levels(z, model):
    return [("embedding", z), ("parameters", list(model.parameters()))]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, (str(folder / "store"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_every_option_gives_the_joined_batch(ranks, attention):
    whole = slice(0, sum(N_LOCAL))
    for loss in LOSSES:
        expected = contrast(loss, attention, whole, gather=False)
        for found in ranks:
            torch.testing.assert_close(
                found[loss, attention],
                expected,
                rtol=1e-9,
                atol=1e-9,
                msg=lambda text, loss=loss: f"{loss}: {text}",
            )


def test_no_positive_anywhere_is_zero_on_every_rank(ranks):
    for found in ranks:
        assert torch.equal(found["alone"], torch.zeros_like(found["alone"]))


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("level", ["embedding", "parameters"])
def test_every_rank_finds_the_weights_of_the_joined_batch(
    ranks, normalize, level
):
    x, labels, target = joined_batch()
    model = encoder()
    z = model(x)
    losses = [
        (z - target).square().mean(),
        SupConMarginLoss(0.2, 0.3)(z, labels),
    ]
    shared = dict(levels(z, model))[level]
    expected = MinNormBalancer(normalize)(losses, shared)
    assert 0.01 < expected[0] < 0.99  # not an end, where many agree
    assert torch.equal(ranks[0][normalize, level], ranks[1][normalize, level])
    torch.testing.assert_close(ranks[0][normalize, level], expected)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_the_brains_step_is_that_of_the_joined_batch(ranks, normalize):
    """Classification, attention, contrast and balancing through DDP."""
    wanted, means = brains_step(normalize, brains_batch(slice(0, sum(N_LOCAL))))
    assert 0.01 < means["weight_contrastive"] < 0.99
    for found in ranks:
        gradient, rank_means = found["brain", normalize]
        torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-6)
        for name in ("classification", "contrastive", "weight_contrastive"):
            assert rank_means[name] == pytest.approx(means[name], rel=1e-5)
    assert torch.equal(*(r["brain", normalize][0] for r in ranks))


def test_all_processes_leave_out_a_batch_that_one_cannot_use(ranks):
    for found in ranks:
        assert found["left out"] == (True, 1)
        assert found["stopped"]


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
