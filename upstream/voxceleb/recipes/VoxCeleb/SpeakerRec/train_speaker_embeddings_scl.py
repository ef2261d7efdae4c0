#!/usr/bin/python3
"""Recipe for training speaker embeddings by classification and supervised
contrast: AAM-softmax and a contrastive loss with an additive angular margin
and class-aware attention, balanced by their gradients.

To run this recipe, use the following command:
> python train_speaker_embeddings_scl.py {hyperparameter_file}

Using your own hyperparameter file or the following one:
    hparams/train_ecapa_tdnn_scl.yaml

Data pipeline, classification, validation and checkpoints are those of
train_speaker_embeddings.py. The corpus is what the hyperparameter file says:
the recipe of CN-Celeb has a link to this script.

Reference
    Li, Mak, Meng, "Discriminative speaker representation via contrastive
    learning with class-aware attention in angular space", ICASSP 2023
    (https://arxiv.org/abs/2210.16622)

Authors
    * The speechbrain_scl contributors 2026
"""

import importlib
import os
import sys

import torch
from hyperpyyaml import load_hyperpyyaml
from train_speaker_embeddings import SpeakerBrain, dataio_prep

import speechbrain as sb
from speechbrain.dataio.sampler import SpeakerBatchSampler
from speechbrain.utils.data_utils import download_file
from speechbrain.utils.distributed import run_on_main


class ContrastiveSpeakerBrain(SpeakerBrain):
    """Adds the contrastive loss to the classification loss."""

    def compute_forward(self, batch, stage):
        """Views, features, embeddings and the classifier's outputs."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        if stage == sb.Stage.TRAIN:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats)
        outputs = self.modules.classifier(embeddings)
        return outputs, embeddings, lens

    def compute_objectives(self, predictions, batch, stage):
        """The sum of both losses, with the balancer's weights."""
        outputs, embeddings, lens = predictions
        classification = super().compute_objectives(
            (outputs, lens), batch, stage
        )
        if stage != sb.Stage.TRAIN:
            return classification
        spkid, _ = batch.spk_id_encoded
        spkid = self.hparams.wav_augment.replicate_labels(spkid)
        attention = self.hparams.attention(
            embeddings, spkid, self.hparams.classifier.weight
        )
        contrastive = self.hparams.contrastive_loss(
            embeddings, spkid, attention
        )
        weights = self.hparams.balancer(
            [classification, contrastive], embeddings
        )
        with torch.no_grad():
            self.objectives.append(
                torch.stack(
                    [classification, contrastive, weights[1], attention.mean()]
                )
            )
        return weights[0] * classification + weights[1] * contrastive

    def on_stage_start(self, stage, epoch=None):
        """Starts what the log shows of an epoch."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.objectives = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Adds the objectives' means to the log."""
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.TRAIN and self.objectives:
            names = "classification contrastive contrastive_weight attention"
            means = torch.stack(self.objectives).mean(0).tolist()
            self.train_stats.update(zip(names.split(), means))


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

    # Dataset prep (parsing the corpus and annotation into csv files). The
    # preparation lies beside the script, or beside the link to it.
    if not hparams["skip_prep"]:
        sys.path.append(os.path.dirname(os.path.abspath(__file__)))
        module, function = hparams["prepare_function"].split(".")
        prepare = getattr(importlib.import_module(module), function)
        options = hparams["prepare_options"]
        if "verification_file" in hparams:
            # The trials' speakers are not trained on.
            run_on_main(
                download_file,
                args=[
                    hparams["verification_file"],
                    options["verification_pairs_file"],
                ],
            )
        run_on_main(prepare, kwargs=options)
        run_on_main(hparams["prepare_noise_data"])
        run_on_main(hparams["prepare_rir_data"])

    # Dataset IO prep: creating Dataset objects and proper encodings
    train_data, valid_data, label_encoder = dataio_prep(hparams)

    # Brain class initialization
    speaker_brain = ContrastiveSpeakerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )

    # Batches of speakers with several utterances of each
    distributed = sb.utils.distributed.is_distributed_initialized()
    sampler = SpeakerBatchSampler(
        [row["spk_id"] for row in train_data.data.values()],
        hparams["speakers_per_batch"],
        hparams["utterances_per_speaker"],
        seed=hparams["seed"],
        processes=torch.distributed.get_world_size() if distributed else 1,
    )
    speaker_brain.train_sampler = sampler  # told of each epoch

    # Training
    speaker_brain.fit(
        speaker_brain.hparams.epoch_counter,
        train_data,
        valid_data,
        train_loader_kwargs={
            "batch_sampler": sampler,
            "num_workers": hparams["num_workers"],
        },
        valid_loader_kwargs=hparams["valid_dataloader_options"],
    )

    # The encoder of the best checkpoint, where verification finds it
    hparams["checkpointer"].recover_if_possible(min_key="ErrorRate")
    path = os.path.join(hparams["save_folder"], "embedding_model.ckpt")
    run_on_main(
        torch.save, args=[hparams["embedding_model"].state_dict(), path]
    )
