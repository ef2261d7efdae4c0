"""A Brain that survives interruptions, bad batches and several processes."""

import contextlib
import random
import sys
from functools import partial

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

import speechbrain as sb
from speechbrain.utils.checkpoints import DEFAULT_SAVE_HOOKS, get_default_hook
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import all_reduce_max, rank
from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.training.checkpoints import Interruption, RandomState
from speechbrain_scl.training.progress import Progress

logger = get_logger(__name__)


class ResilientBrain(sb.core.Brain):
    """SpeechBrain's Brain, with rules for what goes wrong in long runs.

    A run that goes on from a checkpoint of a ``CompleteCheckpointer`` is the
    run that was not interrupted, and the first Ctrl-C or SIGTERM writes one and
    ends the program with status 130 or 143. A loss or a gradient that is not
    finite never reaches the parameters or the running statistics: its batch is
    named and left out, on all processes alike; more than ``nonfinite_patience``
    of them in an epoch end the run. Each process draws numbers of its own.
    """

    # For loaders made elsewhere schedules advance per epoch.
    batches_per_epoch = float("inf")
    epoch = 1

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Asks optimizers_step for check_gradients.
        self.skip_nonfinite_grads = True
        self.nonfinite_count = 0
        self.buffers_before = []
        self.random_state = RandomState()
        self.progress = Progress()
        self.interruption = Interruption()
        self.agreed_signal = 0
        self._start_step()
        if self.checkpointer is not None:
            self._add_recoverables()

    def fit(self, *args, **kwargs):
        """As SpeechBrain's; a first Ctrl-C or SIGTERM ends it in good order."""
        with _errors_of_workers(), Interruption() as self.interruption:
            super().fit(*args, **kwargs)

    def on_fit_start(self):
        """Prepares the processes, then as SpeechBrain's."""
        if self.distributed_launch:
            for name, module in self.modules.named_modules():
                if self.device_type == "cpu" and isinstance(module, _BatchNorm):
                    raise UserError(
                        f"modules: {name} is a batch normalisation, which "
                        "cannot be synchronised between processes on the CPU: "
                        "train with one process, on GPUs, or with an encoder "
                        "without batch normalisation"
                    )
            # All processes have seeded alike, for equal initial parameters.
            seed = torch.initial_seed() + rank()
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
        super().on_fit_start()
        # Lists: a walk through a deep encoder's modules is a part of a step.
        self.parameters = list(self.modules.parameters())
        self.buffer_places = [
            (module._buffers, name)
            for module in self.modules.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def make_dataloader(self, dataset, stage, *args, **options):
        """As SpeechBrain's, which forgets a custom batch sampler's epochs."""
        loader = super().make_dataloader(dataset, stage, *args, **options)
        if stage == sb.Stage.TRAIN:
            self.batches_per_epoch = len(loader)
            if self.train_sampler is None:
                self.train_sampler = options.get("batch_sampler")
        return loader

    def on_fit_batch_start(self, batch, should_step):
        """Remembers what a batch that is left out must not change."""
        self.random_state.resume()
        self.epochs_done = self.epoch - 1
        self.epochs_done += (self.step - 1) / self.batches_per_epoch
        augmenter = getattr(self.hparams, "wav_augment", None)
        # Noises and rooms are chosen anew for each batch: where their loaders
        # are in their shuffled lists is in no checkpoint.
        for part in getattr(augmenter, "augmentations", {}).values():
            for name in ("noise_data", "rir_data"):
                if hasattr(part, name):
                    setattr(part, name, iter(()))
        self.batch_ids = list(getattr(batch, "id", []))
        self.step_ids += self.batch_ids
        buffers = self._buffers()
        if [b.shape for b in buffers] != [b.shape for b in self.buffers_before]:
            self.buffers_before = [b.clone() for b in buffers]
        elif buffers:
            torch._foreach_copy_(self.buffers_before, buffers)

    def check_loss_isfinite(self, loss):
        """Asks all processes whether the loss is finite and a signal came; the
        answer is read after the backward pass: one wait in a step."""
        self.batch_loss = loss.detach()
        signal = torch.full_like(self.batch_loss, self.interruption.signal)
        bad = (~self.batch_loss.isfinite()).to(signal)
        self.asked = all_reduce_max(torch.stack([bad, signal]))
        self.loss_is_finite = None

    def check_gradients(self):
        """Drops the step where the loss or a gradient is not finite."""
        # DDP has averaged the gradients: all processes decide alike.
        parameters = [p for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        gradient_is_bad = (~norm.isfinite()).to(self.asked)[None]
        answers = torch.cat([self.asked, gradient_is_bad]).tolist()
        self._judge_loss(*answers[:2])
        if self.step_is_finite and answers[2]:
            self._leave_out("gradient is not finite", "step", self.step_ids)
            self.step_is_finite = False
        if not self.step_is_finite:
            for parameter in parameters:
                parameter.grad = None

    def _judge_loss(self, is_bad, signal):
        """Reads the answers to ``check_loss_isfinite``."""
        self.agreed_signal = int(signal)
        self.loss_is_finite = not is_bad
        if is_bad:
            self.step_is_finite = False
            why = f"loss is {self.batch_loss.item()}"
            here = not self.batch_loss.isfinite()
            self._leave_out(why, "batch", self.batch_ids, here)

    def optimizers_step(self):
        """As SpeechBrain's, and starts to collect the next step."""
        super().optimizers_step()
        self._start_step()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Undoes what a batch without a finite loss left in the buffers."""
        if self.loss_is_finite is None:
            # No step yet, or one that the gradient scaler looks after.
            self._judge_loss(*self.asked.tolist())
        if not self.loss_is_finite:
            for now, before in zip(self._buffers(), self.buffers_before):
                now.copy_(before)

    def on_stage_start(self, stage, epoch=None):
        """Starts the epoch's means, but within an epoch goes on with them."""
        if stage == sb.Stage.TRAIN:
            self.epoch = epoch
            # An epoch's last micro-batches may have waited for a step in vain.
            self._start_step()
            if self.step > 0:
                return  # within the epoch
            self.progress.start_epoch()
        # An interruption after the last batch left no batch to do it.
        self.random_state.resume()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Stops after the validation where a signal came during it."""
        if stage == sb.Stage.VALID:
            signal = torch.tensor(self.interruption.signal).to(self.device)
            self.agreed_signal = int(all_reduce_max(signal))
            if self.agreed_signal:
                self._exit(f"epoch {epoch} is complete")

    def _buffers(self):
        # Some modules replace theirs instead of writing into them.
        return [holder[name] for holder, name in self.buffer_places]

    def _start_step(self):
        self.step_ids = []
        self.step_is_finite = True

    def _add_recoverables(self):
        parts = {"random_state": self.random_state, "progress": self.progress}
        for name in ("label_cleaner", "near_speakers"):
            parts[name] = getattr(self.hparams, name, None)
        add = partial(self.checkpointer.add_recoverable, optional_load=True)
        for name, part in parts.items():
            if part is not None:
                add(name, part, type(part).load, type(part).save)
        annealing = getattr(self.hparams, "lr_annealing", None)
        known = map(id, self.checkpointer.recoverables.values())
        # Most schedules follow from the epoch and have nothing to save.
        is_saved = get_default_hook(annealing, DEFAULT_SAVE_HOOKS) is not None
        if is_saved and id(annealing) not in known:
            add("lr_annealing", annealing)

    def _leave_out(self, why, what, utterances, here=True):
        named = ", ".join(map(str, utterances))
        if here:  # not another process's batch
            text = "The %s, and the %s is left out: %s"
            logger.warning(text, why, what, named, main_process_only=False)
        self.nonfinite_count += 1
        if self.nonfinite_count > self.nonfinite_patience:
            raise UserError(
                f"{self.nonfinite_count} batches of this epoch had no finite "
                f"loss or gradient, and nonfinite_patience is "
                f"{self.nonfinite_patience}; the last one held {named}: look "
                "at these recordings, lower lr, or train with --precision=fp32"
            )

    def _should_save_intra_epoch_ckpt(self, *since_the_last):
        if not self.distributed_launch:  # where the processes agree on one
            self.agreed_signal = self.interruption.signal
        if self.agreed_signal and self.checkpointer is None:
            self._exit("there is no checkpoint")
        # Gradients that wait for further micro-batches are in no checkpoint.
        if self.step % self.grad_accumulation_factor:
            return False
        asked = super()._should_save_intra_epoch_ckpt(*since_the_last)
        return asked or self.agreed_signal > 0

    def _save_intra_epoch_ckpt(self):
        super()._save_intra_epoch_ckpt()
        if self.agreed_signal:
            self._exit(f"saved after batch {self.step} of the epoch")

    def _exit(self, state):
        if if_main_process():
            if self.checkpointer is not None:
                folder = self.checkpointer.checkpoints_dir
                state += f" in {folder}; the same command goes on from there"
            # Beside the progress bar, not at its end.
            tqdm.write(f"interrupted: {state}", file=sys.stderr)
        sys.exit(128 + self.agreed_signal)


@contextlib.contextmanager
def _errors_of_workers():
    """What PyTorch makes of a loader worker's error or end, in one line."""
    try:
        yield
    except UserError as error:
        # The worker's own traceback, which ends with the message
        raise UserError(str(error).rstrip().split("UserError: ")[-1]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"{first_line(error)}; where memory did not suffice, lower "
            "num_workers; the same command goes on from the last checkpoint"
        ) from error
