"""Two gloo processes against the single process with the joined batch.

The processes hold different numbers of utterances, and positives that only
the other one has.
"""

import itertools

import pytest
import small_brain as small
import torch
from test_losses import OPTIONS as LOSSES
from two_processes import results_of

from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.distributed import all_reduce_sum, gather_rows, world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.losses import SupConMarginLoss

ROWS = slice(0, 5), slice(5, 13)  # utterances of each rank
WHOLE = slice(0, 13)
BALANCING = list(
    itertools.product(("none", "l2", "loss"), ("embedding", "parameters"))
)
RESCALE = ("best_class", "max", "mean", "none")
ATTENTIONS = [None, *itertools.product(RESCALE, (True, False))]


def batch(rows):
    generator = torch.Generator().manual_seed(0)
    n = WHOLE.stop
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    labels[0], labels[-1] = 9, 9  # a pair across the ranks
    return x[rows], labels[rows]


def contrast(loss_options, attention_options, rows, gather, alone=False):
    """The loss, and the gradients of the encoder and the class vectors."""
    chunk_size = 3 if "none" in loss_options else None
    loss = SupConMarginLoss(0.2, 0.3, *loss_options, chunk_size, gather)
    x, labels = batch(rows)
    if alone:
        labels = torch.arange(rows.start, rows.stop)
    torch.manual_seed(1)
    model, weights = torch.nn.Linear(6, 4).double(), None
    vectors = torch.nn.Parameter(torch.eye(10, 4, dtype=torch.float64) + 0.1)
    z = model(x)
    if attention_options is not None:
        rescale, detach = attention_options
        attention = ClassAwareAttention(3.0, rescale, detach, gather)
        weights = attention(z, labels, vectors)
    value = loss(z, labels, weights)
    found = torch.autograd.grad(
        value,
        [*model.parameters(), vectors],
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([value.detach()[None], *(g.flatten() for g in found)])


def whole_brain(normalize, at="embedding"):
    """The Brain with every objective; the same on every process."""
    torch.manual_seed(2)
    brain = SupConSpeakerBrain(
        modules=small.linear_modules(6, 10),
        opt_class=lambda params: torch.optim.SGD(params, lr=0.1),
        hparams={
            "objective": small.objective(
                classification=small.aam(2),
                contrastive=SupConMarginLoss(0.2, 0.3, gather=True),
                attention=ClassAwareAttention(3.0),
                balancer=MinNormBalancer(normalize),
            ),
            "balance_at": at,
        },
        run_opts={"max_grad_norm": 1e9, "distributed_backend": "gloo"},
    )
    return small.started(brain)


def brains_step(case, rows):
    """What a step changes, and the epoch's means."""
    brain = whole_brain(*case)
    before = small.parameters_of(brain.modules)
    x, labels = batch(rows)
    brain.fit_batch(small.batch_of(x.float(), labels))
    return small.parameters_of(brain.modules) - before, brain.progress.means()


def together(rank, folder):
    """Everything two processes compute together; they both leave out a batch
    that one of them cannot use."""
    rows = ROWS[rank]
    found = {
        case: contrast(*case, rows, gather=True)
        for case in itertools.product(LOSSES, ATTENTIONS)
    }
    found["alone"] = contrast(LOSSES[0], None, rows, True, alone=True)
    # DDP averages over the processes.
    joined = all_reduce_sum(torch.stack(list(found.values()))) / world_size()
    found = dict(zip(found, joined))
    for case in BALANCING:
        found[case] = brains_step(case, rows)

    brain = whole_brain("none")
    brain.nonfinite_patience = 1
    before = small.parameters_of(brain.modules)
    x, labels = batch(rows)
    broken = small.batch_of(x.float() if rank == 0 else x.float() / 0, labels)
    brain.fit_batch(broken)
    assert torch.equal(before, small.parameters_of(brain.modules))
    assert brain.nonfinite_count == 1
    with pytest.raises(UserError, match="nonfinite_patience is 1"):
        brain.fit_batch(broken)

    local = torch.arange(3 * rank, 3 * rank + 2 + rank)[:, None]
    found["gathered"] = gather_rows(local)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_of(together, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_every_option_gives_the_joined_batch(ranks, attention):
    for loss in LOSSES:
        expected = contrast(loss, attention, WHOLE, gather=False)
        for found in ranks:
            torch.testing.assert_close(
                found[loss, attention],
                expected,
                rtol=1e-9,
                atol=1e-9,
                msg=lambda text, loss=loss: f"{loss}: {text}",
            )


@pytest.mark.parametrize("case", BALANCING, ids="-".join)
def test_the_brains_step_is_that_of_the_joined_batch(ranks, case):
    """Classification, attention, contrast and balancing through DDP."""
    wanted, means = brains_step(case, WHOLE)
    assert 0.01 < means["weight_contrastive"] < 0.99
    for found in ranks:
        step, rank_means = found[case]
        torch.testing.assert_close(step, wanted, rtol=1e-5, atol=1e-6)
        for name in ("classification", "contrastive", "weight_contrastive"):
            assert rank_means[name] == pytest.approx(means[name], rel=1e-5)
    assert torch.equal(*(found[case][0] for found in ranks))


def test_unequal_rows_are_joined_in_the_order_of_the_ranks(ranks):
    for found, place in zip(ranks, (slice(0, 2), slice(2, 5))):
        assert not found["alone"].any()  # a positive nowhere: zero
        (rows,), where = found["gathered"]
        assert rows.flatten().tolist() == [0, 1, 3, 4, 5] and where == place
