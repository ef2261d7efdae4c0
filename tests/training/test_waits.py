"""Where the host waits for the device in a step of training: counted.

On the CPU nothing waits, so the test plays a device: what a batch's transfer
gives, the parameters, and all that is computed from them lie "there"; a look at
one of their values would be a wait.
"""

import re
import traceback
from collections import Counter
from pathlib import Path

import pytest
import small_brain as small
import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
)
from torch.utils._pytree import tree_leaves
from two_processes import results_of

from speechbrain.augment.time_domain import DropChunk, DropFreq
from speechbrain.dataio.batch import PaddedBatch
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.training.classifiers import SampledClassifier

VALUES = frozenset(
    "_local_scalar_dense nonzero _unique2 unique_consecutive masked_select "
    "is_nonzero equal".split()
)
METHODS = ("tolist", "cpu", "numpy")  # no operation of their own on a CPU


class Device(TorchDispatchMode):
    """Counts looks at values that lie on the played device, by function."""

    def __init__(self, brain):
        super().__init__()
        self.kept, self.there, self.waits = [], set(), Counter()
        self.put(*brain.modules.parameters(), *brain.modules.buffers())

    def put(self, *tensors):
        """They lie there; kept, so that no other gets their memory."""
        for tensor in tensors:
            self.kept.append(tensor)
            self.there.add(tensor.untyped_storage().data_ptr())

    def has(self, tensor):
        return tensor.untyped_storage().data_ptr() in self.there

    def transfer(self, batch, *args, **kwargs):
        """As a copy to the device gives it."""
        for name in ("sig", "spk_id_encoded"):
            padded = getattr(batch, name)
            moved = type(padded)(*(part.clone() for part in padded))
            self.put(*moved)
            setattr(batch, name, moved)
        return batch

    def wait(self):
        for frame in reversed(traceback.extract_stack()):
            place = "^(?!.*/tests/).*(speechbrain|torch/(optim|amp))"
            if re.search(place, frame.filename):
                self.waits[f"{Path(frame.filename).stem}.{frame.name}"] += 1
                return
        raise AssertionError("a wait of nobody")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = tree_leaves((args, kwargs))
        tensors = [x for x in given if isinstance(x, torch.Tensor)]
        if function.namespace == "c10d":  # processes talk from device to device
            self.put(*tensors)
        if any(self.has(x) for x in tensors):
            name = function.overloadpacket.__name__
            if name in VALUES:
                self.wait()
            # What changes something in place may return nothing.
            found = [result, given if name.endswith("_") else None]
            found = tree_leaves(found)
            self.put(*(x for x in found if isinstance(x, torch.Tensor)))
        return result

    def patch(self, monkeypatch):
        """Methods that look or move, without an operation that does."""
        for name in METHODS:

            def look(tensor, *args, method=getattr(torch.Tensor, name)):
                found = method(tensor, *args)
                if self.has(tensor):
                    self.wait()
                    if found is tensor:  # it would lie on the host now
                        with _disable_current_modes():
                            found = tensor.clone()
                return found

            monkeypatch.setattr(torch.Tensor, name, look)

        def to(tensor, *args, non_blocking=False, **kwargs):
            moved = plain_to(tensor, *args, **kwargs)
            if non_blocking and moved is tensor:  # a copy lies there
                moved = tensor.clone()
                self.put(moved)
            return moved

        plain_to = torch.Tensor.to
        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(
            PaddedBatch, "to", lambda batch, *_, **__: self.transfer(batch)
        )


def batch(samples):
    return small.batch_of(torch.rand(8, samples), [i % 4 for i in range(8)])


def waits_of_a_step(fp16=False, samples=8, modules={}, hparams={}, **run_opts):
    """Of the second step, when buffers and optimiser state are there."""
    torch.manual_seed(0)
    brain = SupConSpeakerBrain(
        {**small.linear_modules(8, 4), **modules},
        torch.optim.Adam,
        {"objective": small.objective(gather=True), **hparams},
        run_opts,
    )
    if fp16:  # which SpeechBrain has on a GPU only
        brain.training_ctx = torch.autocast("cpu", torch.float16)
        brain.scaler = torch.amp.GradScaler("cpu")
    small.started(brain).step = 1
    brain.fit_batch(batch(samples))
    brain.step = 2
    device, second = Device(brain), batch(samples)
    with device, pytest.MonkeyPatch.context() as patches:
        device.patch(patches)
        loss = brain.fit_batch(second)
        brain._should_save_intra_epoch_ckpt(0, 1)
    assert loss.isfinite()
    return device.waits


# SpeechBrain's own: the loss for the progress bar; one-hot's check of the
# labels' range, which an accelerator leaves out
EXPECTED = {"core.fit_batch": 1, "losses.forward": 2}
ONCE = {"resilience.check_gradients": 1}
# PyTorch's own: whether it drops the step. It reads that before the
# Brain is asked to, so that the Brain reads its answers after the step.
SCALER = {"grad_scaler.<genexpr>": 1, "resilience.on_fit_batch_end": 1}


@pytest.mark.parametrize("at", ["embedding", "parameters"])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_step_waits_once(accumulation, at):
    found = waits_of_a_step(
        hparams={"balance_at": at}, grad_accumulation_factor=accumulation
    )
    last = ONCE if accumulation == 1 else {"resilience.on_fit_batch_end": 1}
    assert found == {**EXPECTED, **last}


def test_features_and_encoder_add_none():
    views = small.views_by(DropFreq(), DropChunk(100, 200))
    found = waits_of_a_step(
        False, 2000, small.modules_of(4), {"wav_augment": views}
    )
    # SpeechBrain's DropChunk, if it was drawn, looks at each recording.
    found.pop("time_domain.forward", None)
    assert found == {**EXPECTED, **ONCE}


CASES = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"fp16": True},
    "sampled": {"modules": {"classifier": SampledClassifier(4, 40, 0.3)}},
}


def on_a_rank(rank, folder):
    gloo = {"device": "cpu", "distributed_backend": "gloo"}
    return {name: waits_of_a_step(**CASES[name], **gloo) for name in CASES}


def test_two_processes_exchange_sizes_and_labels(tmp_path):
    # Shapes depend on them; a signal has no message of its own.
    # The contrastive loss is in a losses.py, too.
    exchanged = {"distributed.rows_of_all": 1, "losses.forward": 2 + 1}
    for found in results_of(on_a_rank, tmp_path):
        assert set(found) == set(CASES)
        for name, waits in found.items():
            last = SCALER if name == "fp16" else ONCE
            assert waits == {**EXPECTED, **exchanged, **last}, name
