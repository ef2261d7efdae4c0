#!/usr/bin/python3
"""Recipe for training speaker embeddings with AAM-softmax and supervised
contrast: an additive angular margin inside the contrastive loss, class-aware
attention, and gradient-based balancing of the two objectives.

To run this recipe, use the following command:
> python @SCRIPT@ {hyperparameter_file}

Using your own hyperparameter file or the following:
    @YAML@

Reference
    Li, Mak, Meng, "Discriminative speaker representation via contrastive
    learning with class-aware attention in angular space", ICASSP 2023
    (https://arxiv.org/abs/2210.16622)
"""

import os
import sys

import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.utils.distributed import run_on_main
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.samplers import SpeakerBatchSampler
from speechbrain_scl.training.data import UtteranceDataset, add_items


def dataio_prep(hparams):
    """Creates the datasets and their data processing pipelines.

    Arguments
    ---------
    hparams : dict
        The experiment.

    Returns
    -------
    train_data, valid_data : UtteranceDataset
        Random crops for training, middle crops for validation.
    speakers : list of str
        The speaker of each training utterance.
    """
    train_data, valid_data = (
        UtteranceDataset.from_csv(
            csv_path=path,
            replacements={"data_root": hparams["data_folder"]},
        )
        for path in (hparams["train_annotation"], hparams["valid_annotation"])
    )
    speakers = [row["spk_id"] for row in train_data.data.values()]
    add_items(train_data, valid_data, speakers, hparams)
    return train_data, valid_data, speakers


if __name__ == "__main__":
    # This flag enables the inbuilt cudnn auto-tuner
    torch.backends.cudnn.benchmark = True

    # CLI:
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])

    # Initialize ddp (useful only for multi-GPU DDP training)
    sb.utils.distributed.ddp_init_group(run_opts)

    # Load hyperparameters file with command-line overrides
    with open(hparams_file, encoding="utf-8") as fin:
        hparams = load_hyperpyyaml(fin, overrides)

    # Create experiment directory
    sb.core.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )

    # Dataset prep (parsing the corpus and annotation into csv files)
    # @PREPARE@
    if not hparams["skip_prep"]:
        run_on_main(hparams["prepare_noise_data"])
        run_on_main(hparams["prepare_rir_data"])

    # Dataset IO prep: creating Dataset objects and proper encodings for speakers
    train_data, valid_data, speakers = dataio_prep(hparams)

    # Brain class initialization
    speaker_brain = SupConSpeakerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )

    # Training, on batches of speakers with several utterances of each
    distributed = torch.distributed.is_initialized()
    sampler = SpeakerBatchSampler(
        speakers,
        hparams["speakers_per_batch"],
        hparams["utterances_per_speaker"],
        seed=hparams["seed"],
        processes=torch.distributed.get_world_size() if distributed else 1,
    )
    speaker_brain.fit(
        hparams["epoch_counter"],
        train_data,
        valid_data,
        train_loader_kwargs={
            "batch_sampler": sampler,
            "num_workers": hparams["num_workers"],
        },
        valid_loader_kwargs={
            "batch_size": hparams["valid_batch_size"],
            "num_workers": hparams["num_workers"],
        },
    )

    # The encoder of the best checkpoint, for verification
    hparams["checkpointer"].recover_if_possible(min_key="EER")
    encoder = hparams["modules"]["embedding_model"]
    path = os.path.join(hparams["save_folder"], "embedding_model.ckpt")
    run_on_main(torch.save, args=[encoder.state_dict(), path])
