"""A training run: manifests to the inference folder."""

import os
import shlex
import sys

import torch

from speechbrain.utils.checkpoints import average_checkpoints
from speechbrain.utils.distributed import (
    ddp_barrier,
    if_main_process,
    run_on_main,
)
from speechbrain_scl.data.augmentation import augmenter_of, prepare_augmentation
from speechbrain_scl.distributed import world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.release.inference import (
    describe_training,
    save_inference_folder,
)
from speechbrain_scl.samplers import (
    NearSpeakerBatchSampler,
    SpeakerBatchSampler,
)
from speechbrain_scl.training.checkpoints import check_sums
from speechbrain_scl.training.data import dataio_prep, spread_values
from speechbrain_scl.training.finetuning import start_from


def train(brain_class, hparams, run_opts, hparams_file, overrides):
    """Trains from prepared manifests and leaves the inference folder.

    ``hparams`` is the experiment as ``hparams/ecapa_scl.yaml`` of a recipe
    spells it, ``hparams_file`` and ``overrides`` where it comes from.
    """
    modules, save_folder = hparams["modules"], hparams["save_folder"]
    _check_compilation(run_opts, modules)
    torch.backends.cudnn.benchmark = True
    run_on_main(prepare_augmentation, [hparams])
    hparams["wav_augment"] = augmenter_of(hparams)

    train_data, valid_data, label_encoder, speakers = dataio_prep(hparams)
    _check_speakers(hparams, hparams_file, len(label_encoder), valid_data)
    near = hparams.get("near_speakers")
    sampler = (NearSpeakerBatchSampler if near else SpeakerBatchSampler)(
        speakers,
        hparams["speakers_per_batch"],
        hparams["utterances_per_speaker"],
        seed=hparams["seed"],
        processes=world_size(),
        spread_over=spread_values(hparams),
        **({"hard": near.share} if near else {}),
    )
    if near:
        near.start(sampler, label_encoder.encode_sequence(sampler.names))

    cleaner = hparams.get("label_cleaner")
    if cleaner is not None:
        classes = label_encoder.encode_sequence(speakers)
        cleaner.start(train_data.data_ids, speakers, classes)
    checkpointer = hparams["checkpointer"]
    if hparams["pretrained"] and checkpointer.find_checkpoint() is None:
        folder = os.path.join(save_folder, "pretrained")
        start_from(hparams["pretrained"], modules, label_encoder, folder)

    brain = brain_class(
        modules, hparams["opt_class"], hparams, run_opts, checkpointer
    )
    workers, batch = hparams["num_workers"], hparams["valid_batch_size"]
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        valid_data,
        train_loader_kwargs={"batch_sampler": sampler, "num_workers": workers},
        valid_loader_kwargs={"batch_size": batch, "num_workers": workers},
        # Redirected, it would fill the file.
        progressbar=None if sys.stderr.isatty() else False,
    )

    if cleaner is not None:
        suspects = os.path.join(hparams["output_folder"], "suspects.csv")
        run_on_main(cleaner.write_suspects, [suspects])
    # The best epochs, for verification and for speechbrain.inference
    checkpointer.recover_if_possible(min_key="EER")
    best = checkpointer.find_checkpoints(
        min_key="EER", max_num_checkpoints=hparams["average_checkpoints"]
    )
    if len(best) > 1:
        for checkpoint in best:
            check_sums(checkpoint.path)
        for name in ("embedding_model", "classifier"):
            modules[name].load_state_dict(average_checkpoints(best, name))
    if if_main_process():
        folder = hparams["inference_folder"]
        done = describe_training(hparams, speakers)
        save_inference_folder(
            folder, hparams_file, overrides, modules, label_encoder, done
        )
        print(f"The trained encoder is in {folder}")
    ddp_barrier()


def _check_speakers(hparams, hparams_file, n_speakers, valid_data):
    """That they fit the classifier and fill a batch."""
    if hparams["out_n_neurons"] < n_speakers:
        raise UserError(
            f"{hparams_file}: out_n_neurons is {hparams['out_n_neurons']}, but "
            f"{hparams['train_annotation']} has {n_speakers} speakers: set "
            f"out_n_neurons to {n_speakers}"
        )
    n_per_batch = hparams["speakers_per_batch"]
    if n_per_batch <= n_speakers:
        return
    # As many as the preparation of a custom corpus advises to hold out
    n_copies = len(hparams["speeds"])
    held_out = len({row["spk_id"] for row in valid_data.data.values()})
    n_all = n_speakers // n_copies + held_out
    held_out = min(held_out, max(n_all // 4, 2))
    n_fit = min(n_per_batch, (n_all - held_out) * n_copies)
    raise UserError(
        f"speakers_per_batch={n_per_batch}, but {n_speakers} speakers are left "
        f"to train on; {n_fit} fit where {held_out} are held out: "
        f"python {shlex.join(sys.argv)} --valid_speakers={held_out} "
        f"--speakers_per_batch={n_fit}"
    )


def _check_compilation(run_opts, modules):
    """SpeechBrain compiles nothing of named modules alone, and says nothing."""
    keys = run_opts.compile_module_keys or []
    why = "give --compile with it"
    if run_opts.compile:
        keys = [key for key in keys if key not in modules]
        why = f"the modules are {', '.join(modules)}, separated by spaces"
    if keys:
        raise UserError(f"--compile_module_keys {' '.join(keys)}: {why}")
