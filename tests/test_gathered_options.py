"""Every option of loss and attention: two processes are the joined batch.

The processes hold different numbers of utterances, and one spawn serves the
whole file.
"""

import itertools
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.distributed import gather_rows
from speechbrain_scl.losses import SupConMarginLoss

N_LOCAL = (5, 8)  # utterances of each rank
RESCALES = ("best_class", "max", "mean", "none")
LOSSES = [
    *itertools.product(
        ("angular", "cosine"),
        ("none", "positive", "all_positives"),
        ("negatives", "logits"),
    )
]
ATTENTIONS = [None, *itertools.product(RESCALES, (True, False))]


def batch():
    generator = torch.Generator().manual_seed(0)
    n = sum(N_LOCAL)
    x = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    labels = torch.randint(7, (n,), generator=generator)
    labels[0], labels[-1] = 7, 7  # a pair across the ranks
    return x, labels


def gradient(loss_options, attention_options, rows, gather):
    """Of the encoder and the class vectors, after the value."""
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
    torch.manual_seed(1)
    encoder = torch.nn.Linear(6, 4).double()
    vectors = torch.nn.Parameter(torch.randn(8, 4, dtype=torch.float64))
    x, labels = (part[rows] for part in batch())
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


@pytest.mark.parametrize("rescale", RESCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_host_waits_in_loss_and_attention(dtype, rescale):
    """Where the labels lie on the host."""
    labels = torch.arange(8) % 3
    z = torch.randn(8, 4, dtype=dtype, requires_grad=True)
    vectors = torch.randn(3, 4, requires_grad=True)
    with Waits() as counter:
        weights = ClassAwareAttention(rescale=rescale)(z, labels, vectors)
        SupConMarginLoss()(z, labels, weights).backward()
        assert counter.found == []
        (torch.arange(8) % 3).nonzero()
    assert counter.found == ["nonzero"]


def test_a_compiler_gives_the_same():
    loss = SupConMarginLoss()
    compiled = torch.compile(SupConMarginLoss(), backend="aot_eager")
    for labels in (torch.arange(8) % 3, torch.arange(8)):
        z, weights = torch.randn(8, 4, requires_grad=True), torch.rand(8)
        results = []
        for function in (loss, compiled):
            value = function(z, labels, weights)
            results.append((value, torch.autograd.grad(value, z)[0]))
        torch.testing.assert_close(*results)


def test_the_gradient_of_what_was_gathered_is_left_as_it_was(ranks):
    """Autograd may share a gradient between several of its receivers."""
    for rank, found in enumerate(ranks):
        x, w = found["second consumer"]
        assert torch.equal(x, torch.full_like(x, 3.0))
        assert torch.equal(w, torch.full_like(w, rank + 1.0))
