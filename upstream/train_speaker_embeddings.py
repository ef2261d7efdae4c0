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
import random
import sys

import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.dataio import audio_io
from speechbrain.utils.distributed import run_on_main
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.samplers import SpeakerBatchSampler


def dataio_prep(hparams):
    """Creates the datasets and their data processing pipelines.

    Arguments
    ---------
    hparams : dict
        The experiment.

    Returns
    -------
    train_data, valid_data : DynamicItemDataset
        Random crops for training, the beginnings for validation.
    speakers : list of str
        The speaker of each training utterance.
    """
    train_data, valid_data = (
        sb.dataio.dataset.DynamicItemDataset.from_csv(
            csv_path=path,
            replacements={"data_root": hparams["data_folder"]},
        )
        for path in (hparams["train_annotation"], hparams["valid_annotation"])
    )

    def crop(wav, start, stop, seconds, draw):
        """So many samples of an utterance; a short one is repeated."""
        start, stop = int(start), int(stop)
        length = int(seconds * hparams["sample_rate"])
        offset = draw(max(stop - start - length, 0))
        sig, _ = audio_io.load(
            wav,
            frame_offset=start + offset,
            num_frames=min(length, stop - start),
        )
        sig = sig.mean(0)
        return sig.repeat(-(-length // len(sig)))[:length]

    @sb.utils.data_pipeline.takes("wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def random_crop(wav, start, stop):
        return crop(
            wav,
            start,
            stop,
            hparams["sentence_len"],
            lambda most: random.randint(0, most),
        )

    @sb.utils.data_pipeline.takes("wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def first_crop(wav, start, stop):
        return crop(wav, start, stop, hparams["valid_len"], lambda most: 0)

    label_encoder = sb.dataio.encoder.CategoricalEncoder()

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("spk_id", "spk_id_encoded")
    def label_pipeline(spk_id):
        yield spk_id
        yield label_encoder.encode_sequence_torch([spk_id])

    train_data.add_dynamic_item(random_crop)
    train_data.add_dynamic_item(label_pipeline)
    label_encoder.load_or_create(
        path=os.path.join(hparams["save_folder"], "label_encoder.txt"),
        from_didatasets=[train_data],
        output_key="spk_id",
    )
    train_data.set_output_keys(["id", "sig", "spk_id_encoded"])
    # The held-out speakers are no classes.
    valid_data.add_dynamic_item(first_crop)
    valid_data.set_output_keys(["id", "sig", "spk_id"])

    speakers = [row["spk_id"] for row in train_data.data.values()]
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
