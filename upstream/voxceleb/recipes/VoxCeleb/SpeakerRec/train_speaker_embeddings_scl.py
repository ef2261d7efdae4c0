#!/usr/bin/python3
"""Recipe for training speaker embeddings by classification and supervised
contrast: AAM-softmax and a contrastive loss with an additive angular margin
and class-aware attention, balanced by their gradients.

To run this recipe, use the following command:
> python train_speaker_embeddings_scl.py {hyperparameter_file}

Using your own hyperparameter file or the following one:
    hparams/train_ecapa_tdnn_scl.yaml

What is classified, validated and kept is as in train_speaker_embeddings.py.
The hyperparameter file names the preparation of the corpus: the recipe of
CN-Celeb has a link to this script.

Reference
    Li, Mak, Meng, "Discriminative speaker representation via contrastive
    learning with class-aware attention in angular space", ICASSP 2023
    (https://arxiv.org/abs/2210.16622)

Authors
    * YOUR NAME 2026
"""

import importlib
import os
import random
import sys

import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.dataio import audio_io
from speechbrain.dataio.sampler import SpeakerBatchSampler
from speechbrain.utils.data_utils import download_file
from speechbrain.utils.distributed import run_on_main


class ContrastiveSpeakerBrain(sb.core.Brain):
    """Trains speaker embeddings by classification and contrast."""

    def compute_forward(self, batch, stage):
        """Views, features, embeddings and the classifier's outputs."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        if stage == sb.Stage.TRAIN:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats, lens)
        outputs = self.modules.classifier(embeddings)
        return outputs, embeddings, lens

    def compute_objectives(self, predictions, batch, stage):
        """In training the sum of both losses, with the balancer's weights."""
        outputs, embeddings, lens = predictions
        spkid, _ = batch.spk_id_encoded
        if stage != sb.Stage.TRAIN:
            self.error_metrics.append(batch.id, outputs, spkid, lens)
            return self.hparams.compute_cost(outputs, spkid, lens)

        spkid = self.hparams.wav_augment.replicate_labels(spkid)
        classification = self.hparams.compute_cost(outputs, spkid, lens)
        attention = self.hparams.attention(
            embeddings, spkid, self.hparams.classifier.weight
        )
        contrastive = self.hparams.contrastive_loss(
            embeddings, spkid, attention
        )
        # Scaled as before a backward pass, or half precision would lose small
        # gradients; a common factor does not change the weights.
        weights = self.hparams.balancer(
            [self.scaler.scale(x) for x in (classification, contrastive)],
            embeddings,
        )
        self.objectives.append(
            torch.stack(
                [
                    classification.detach(),
                    contrastive.detach(),
                    weights[1],
                    attention.mean(),
                ]
            )
        )
        return weights[0] * classification + weights[1] * contrastive

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Moves the learning rate with each step."""
        if should_step:
            self.hparams.lr_annealing.on_batch_end(self.optimizer)

    def on_stage_start(self, stage, epoch=None):
        """Starts what an epoch collects."""
        if stage == sb.Stage.TRAIN:
            self.objectives = []
        else:
            self.error_metrics = self.hparams.error_stats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs the epoch and saves after the validation."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            if self.objectives:
                names = "classification contrastive contrast_weight attention"
                means = torch.stack(self.objectives).mean(0).tolist()
                self.train_stats.update(zip(names.split(), means))
            return
        error_rate = self.error_metrics.summarize("average")
        lr, _ = self.hparams.lr_annealing(epoch)
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": lr},
            train_stats=self.train_stats,
            valid_stats={"loss": stage_loss, "ErrorRate": error_rate},
        )
        self.checkpointer.save_and_keep_only(
            meta={"ErrorRate": error_rate}, min_keys=["ErrorRate"]
        )


def dataio_prep(hparams):
    """Creates the datasets and their data processing pipelines.

    Arguments
    ---------
    hparams : dict
        The hyperparameters.

    Returns
    -------
    train_data, valid_data : DynamicItemDataset
        Of random chunks.
    """
    train_data, valid_data = datasets = [
        sb.dataio.dataset.DynamicItemDataset.from_csv(
            csv_path=path, replacements={"data_root": hparams["data_folder"]}
        )
        for path in (hparams["train_annotation"], hparams["valid_annotation"])
    ]
    num_frames = int(hparams["sample_rate"] * hparams["sentence_len"])

    @sb.utils.data_pipeline.takes("wav", "duration")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav, duration):
        frames = int(duration * hparams["sample_rate"])
        start = random.randint(0, frames - num_frames)
        sig, _ = audio_io.load(wav, num_frames=num_frames, frame_offset=start)
        return sig.squeeze(0)

    label_encoder = sb.dataio.encoder.CategoricalEncoder()

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("spk_id", "spk_id_encoded")
    def label_pipeline(spk_id):
        yield spk_id
        yield label_encoder.encode_sequence_torch([spk_id])

    sb.dataio.dataset.add_dynamic_item(datasets, audio_pipeline)
    sb.dataio.dataset.add_dynamic_item(datasets, label_pipeline)
    # Load or compute the label encoder (with multi-GPU DDP support)
    label_encoder.load_or_create(
        path=os.path.join(hparams["save_folder"], "label_encoder.txt"),
        from_didatasets=[train_data],
        output_key="spk_id",
    )
    sb.dataio.dataset.set_output_keys(datasets, ["id", "sig", "spk_id_encoded"])
    return train_data, valid_data


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
    train_data, valid_data = dataio_prep(hparams)

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
