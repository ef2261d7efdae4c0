"""Every option of loss and attention: two processes are the joined batch.

The processes hold different numbers of utterances, and one spawn serves the
whole file.
"""

import copy
import itertools
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.distributed import gather_rows
from speechbrain_scl.losses import SpeakerGroups, SupConMarginLoss

N_LOCAL = (5, 8)  # utterances of each rank
RESCALES = ("best_class", "max", "mean", "none")
LOSSES = [
    *itertools.product(
        ("angular", "cosine"),
        ("none", "positive", "all_positives"),
        ("negatives", "logits"),
        ((0, False), (20, True)),  # memory, its positives
    ),
    ("angular", "none", "negatives", (20, False)),
    ("angular", "none", "logits", (20, False)),
]
STEPS = list(
    itertools.product((torch.float32, torch.bfloat16), RESCALES, (0, 6))
)
ATTENTIONS = [None, *itertools.product(RESCALES, (True, False))]


def batch(step):
    generator = torch.Generator().manual_seed(step)
    n = sum(N_LOCAL)
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(7, (n,), generator=generator)
    labels[0], labels[-1] = 7, 7  # a pair across the ranks
    return x, labels


def gradient(loss_options, attention_options, rows, gather):
    """Of the encoder and the class vectors, at the second batch."""
    margin_type, denominator, attention_on, (memory, positives) = loss_options
    loss = SupConMarginLoss(
        0.2,
        0.3,
        margin_type,
        denominator,
        attention_on,
        chunk_size=3 if denominator == "none" else None,
        gather=gather,
        memory=memory,
        memory_positives=positives,
    )
    torch.manual_seed(1)
    encoder = torch.nn.Linear(6, 4).double()
    vectors = torch.nn.Parameter(torch.randn(8, 4, dtype=torch.float64))
    for step in range(2 if memory else 1):
        x, labels = (part[rows] for part in batch(step))
        z, weights = encoder(x), None
        if attention_options is not None:
            rescale, detach = attention_options
            attention = ClassAwareAttention(
                3.0, rescale=rescale, detach=detach, gather=gather
            )
            weights = attention(z, labels, vectors)
        value = loss(z, labels, weights)
    parameters = [*encoder.parameters(), vectors]
    found = torch.autograd.grad(
        value, parameters, allow_unused=True, materialize_grads=True
    )
    return torch.cat([value.detach()[None], *(g.flatten() for g in found)])


class Waits(TorchDispatchMode):
    """The operations at which a host waits for an accelerator."""

    NAMES = frozenset(
        "_local_scalar_dense nonzero _unique2 unique_consecutive "
        "masked_select is_nonzero equal".split()
    )

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if (name := function.overloadpacket.__name__) in self.NAMES:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def waits(dtype, rescale, memory, gather):
    """Those of loss and attention, forward and backward."""
    labels = torch.arange(8) % 3
    z = torch.randn(8, 4, dtype=dtype, requires_grad=True)
    vectors = torch.randn(3, 4, requires_grad=True)
    attention = ClassAwareAttention(rescale=rescale, gather=gather)
    loss = SupConMarginLoss(gather=gather, memory=memory)
    groups = SpeakerGroups.of(labels, gather)
    with Waits() as counter:
        weights = attention(z, labels, vectors)
        loss(z, labels, weights, groups).backward()
    return counter.found


def on_a_rank(rank, store, results):
    """Everything two processes compute together."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    first = sum(N_LOCAL[:rank])
    rows = slice(first, first + N_LOCAL[rank])
    found = {
        case: gradient(*case, rows, gather=True)
        for case in itertools.product(LOSSES, ATTENTIONS)
    }
    # DDP averages over the processes.
    joined = torch.stack(list(found.values()))
    dist.all_reduce(joined)
    found = dict(zip(found, joined / 2, strict=True))

    x = torch.ones(2, 3, requires_grad=True)
    w = torch.ones(4, 3, requires_grad=True)
    other = w * 1.0  # made before, so its turn comes after
    (rows,), _ = gather_rows(x)
    ((rows + other) * (rank + 1.0)).sum().backward()
    found["second consumer"] = x.grad, w.grad
    found["waits"] = {case: waits(*case, gather=True) for case in STEPS}
    torch.save(found, f"{results}/{rank}.pt")
    dist.barrier()
    # The threads of gloo may abort a process that ends as usual.
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_a_rank, (str(folder / "store"), str(folder)), nprocs=2)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_every_option_gives_the_joined_batch(ranks, attention):
    whole = slice(0, sum(N_LOCAL))
    for loss in LOSSES:
        expected = gradient(loss, attention, whole, gather=False)
        for found in ranks:
            torch.testing.assert_close(
                found[loss, attention],
                expected,
                rtol=1e-9,
                atol=1e-9,
                msg=lambda text, loss=loss: f"{loss}: {text}",
            )


@pytest.mark.parametrize("case", STEPS, ids=str)
def test_no_host_waits_where_the_groups_are_given(ranks, case):
    assert waits(*case, gather=False) == []
    for found in ranks:
        assert found["waits"][case] == []


def test_the_counter_sees_what_there_is():
    with Waits() as counter:
        (torch.arange(8) % 3).nonzero()
    assert counter.found == ["nonzero"]


def test_the_groups_themselves_are_found_without_a_wait():
    with Waits() as counter:
        SpeakerGroups.of(torch.arange(8) % 3)
    assert counter.found == []


@pytest.mark.parametrize("options", [{}, {"memory": 5}], ids=str)
def test_the_loss_is_one_graph_where_the_groups_are_given(options):
    loss = SupConMarginLoss(**options)
    compiled = torch.compile(
        copy.deepcopy(loss), fullgraph=True, backend="aot_eager"
    )
    # Speakers with pairs, without any, and what the memory makes of both.
    for labels in (torch.arange(8) % 3, torch.arange(8), torch.arange(8) % 3):
        groups = SpeakerGroups.of(labels)
        z, weights = torch.randn(8, 4, requires_grad=True), torch.rand(8)
        results = []
        for function in (loss, compiled):
            value = function(z, labels, weights, groups)
            results.append((value, torch.autograd.grad(value, z)[0]))
        torch.testing.assert_close(*results)


def test_the_gradient_of_what_was_gathered_is_left_as_it_was(ranks):
    """Autograd may share a gradient between several of its receivers."""
    for rank, found in enumerate(ranks):
        x, w = found["second consumer"]
        assert torch.equal(x, torch.full_like(x, 3.0))
        assert torch.equal(w, torch.full_like(w, rank + 1.0))
