"""Two gloo processes against the single process with the joined batch.

The processes hold different numbers of utterances, and positives that only
the other one has.
"""

import itertools

import pytest
import torch
from two_processes import results_of

import speechbrain as sb
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.distributed import all_reduce_sum, gather_rows, world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective

ROWS = slice(0, 5), slice(5, 13)  # utterances of each rank
WHOLE = slice(0, 13)
NORMALIZE = ("none", "l2", "loss")
LOSSES = [
    *itertools.product(
        ("angular", "cosine"),
        ("none", "positive", "all_positives"),
        ("negatives", "logits"),
    )
]
RESCALE = ("best_class", "max", "mean", "none")
ATTENTIONS = [None, *itertools.product(RESCALE, (True, False))]


def batch(rows):
    generator = torch.Generator().manual_seed(0)
    n = WHOLE.stop
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    labels[0], labels[-1] = 9, 9  # a pair across the ranks
    generator.manual_seed(1)
    target = torch.randn(n, 4, dtype=torch.float64, generator=generator)
    return x[rows], labels[rows], target[rows]


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
    x, labels, _ = batch(rows)
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


def balances(rows):
    """The weights at the embedding and at the parameters."""
    x, labels, target = batch(rows)
    model = encoder()
    z = model(x)
    # DDP averages means of equal batches: unequal ones count by their sizes.
    share = len(x) * world_size() / WHOLE.stop
    losses = [
        (z - target).square().mean() * share,
        SupConMarginLoss(0.2, 0.3, gather=world_size() > 1)(z, labels),
    ]
    return torch.stack(
        [
            MinNormBalancer(normalize)(losses, shared)
            for normalize in NORMALIZE
            for shared in (z, list(model.parameters()))
        ]
    )


class Encoder(torch.nn.Linear):
    """[n, time, 1] -> [n, 1, 4]: a batch of any size, no batch statistics."""

    def forward(self, feats):
        return super().forward(feats.transpose(1, 2))


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
            "classifier": Classifier(4, out_neurons=10),
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
        run_opts={"max_grad_norm": 1e9, "distributed_backend": "gloo"},
    )
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    return brain


def brains_batch(rows, broken=False):
    x, labels, _ = batch(rows)
    if broken:
        x[0] = float("nan")
    names = ("id", "sig", "spk_id_encoded")
    rows = zip(map(str, range(len(x))), x.float(), labels[:, None])
    return PaddedBatch([dict(zip(names, row)) for row in rows])


def parameters_of(brain):
    vector = torch.nn.utils.parameters_to_vector(brain.modules.parameters())
    return vector.detach()


def brains_step(normalize, rows):
    """What a step changes, and the epoch's means."""
    brain = whole_brain(normalize)
    before = parameters_of(brain)
    brain.fit_batch(brains_batch(rows))
    return parameters_of(brain) - before, brain.progress.means()


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
    found["balances"] = balances(rows)
    for normalize in NORMALIZE:
        found["brain", normalize] = brains_step(normalize, rows)

    brain = whole_brain("none")
    brain.nonfinite_patience = 1
    before = parameters_of(brain)
    broken = brains_batch(rows, broken=rank == 1)
    brain.fit_batch(broken)
    assert torch.equal(before, parameters_of(brain))
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


def test_no_positive_anywhere_is_zero_on_every_rank(ranks):
    for found in ranks:
        assert torch.equal(found["alone"], torch.zeros_like(found["alone"]))


def test_every_rank_finds_the_weights_of_the_joined_batch(ranks):
    expected = balances(WHOLE)
    # Not an end, where many agree
    assert ((expected > 0.01) & (expected < 0.99)).all()
    assert torch.equal(ranks[0]["balances"], ranks[1]["balances"])
    torch.testing.assert_close(ranks[0]["balances"], expected)


@pytest.mark.parametrize("normalize", NORMALIZE)
def test_the_brains_step_is_that_of_the_joined_batch(ranks, normalize):
    """Classification, attention, contrast and balancing through DDP."""
    wanted, means = brains_step(normalize, WHOLE)
    assert 0.01 < means["weight_contrastive"] < 0.99
    for found in ranks:
        step, rank_means = found["brain", normalize]
        torch.testing.assert_close(step, wanted, rtol=1e-5, atol=1e-6)
        for name in ("classification", "contrastive", "weight_contrastive"):
            assert rank_means[name] == pytest.approx(means[name], rel=1e-5)
    assert torch.equal(*(r["brain", normalize][0] for r in ranks))


def test_unequal_rows_are_joined_in_the_order_of_the_ranks(ranks):
    for found, place in zip(ranks, (slice(0, 2), slice(2, 5))):
        (rows,), where = found["gathered"]
        assert rows.flatten().tolist() == [0, 1, 3, 4, 5] and where == place


def test_one_process_needs_no_group():
    rows = torch.randn(3, 2, requires_grad=True)
    (same,), where = gather_rows(rows)
    assert same is rows and where == slice(0, 3)
    assert all_reduce_sum(rows) is rows
    assert world_size() == 1
