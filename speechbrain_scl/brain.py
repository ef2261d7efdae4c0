"""The Brain: views, features, encoder, objectives, one backward."""

import torch
import torch.nn.functional as F

import speechbrain as sb
from speechbrain.utils.logger import get_logger
from speechbrain_scl.errors import UserError

logger = get_logger(__name__)


class SupConSpeakerBrain(sb.core.Brain):
    """Trains speaker embeddings by classification and margin contrast.

    A training step makes the views (the augmenter's, the clean crop among
    them), runs features and encoder over them once, computes the
    classification loss and the contrastive loss at the embedding, and adds
    them with the balancer's weights:

        L = w_1 L_classification + w_2 L_contrastive

    ``fit_batch`` is SpeechBrain's own, so mixed precision, gradient
    accumulation, DDP and the non-finite checks work as in any recipe. Without
    ``contrastive_loss`` this is the Brain of SpeechBrain's VoxCeleb recipe,
    with the same losses.

    Validation measures the equal error rate over all pairs of the validation
    utterances, whose speakers need not be in the training data.

    It reads these ``hparams``:

    - ``modules``: compute_features, mean_var_norm, embedding_model, classifier
      (the classifier's ``weight`` holds the class vectors);
    - ``compute_cost``: the classification loss of (outputs, labels, lengths);
    - ``contrastive_loss``: e.g. ``SupConMarginLoss``, or null for none;
    - ``attention``: e.g. ``ClassAwareAttention``, or null for none;
    - ``balancer``: e.g. ``MinNormBalancer``;
    - ``balance_at``: embedding (default) or parameters (of the encoder: exact
      MGDA, one more backward pass through the encoder per objective);
    - ``wav_augment`` (optional): a SpeechBrain ``Augmenter``; with
      ``concat_original`` the clean crop is the first view;
    - ``verification_error``: a function of (scores, labels) that returns
      (error rate, threshold), e.g. ``evaluation.metrics.eer``;
    - ``lr_annealing``, ``train_logger``: as in any recipe.

    Arguments
    ---------
    *args, **kwargs
        Those of ``speechbrain.core.Brain``.

    Example
    -------
    >>> from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    >>> from speechbrain.nnet.losses import AdditiveAngularMargin
    >>> from speechbrain.nnet.losses import LogSoftmaxWrapper
    >>> from speechbrain_scl.attention import ClassAwareAttention
    >>> from speechbrain_scl.balancing import MinNormBalancer
    >>> from speechbrain_scl.losses import SupConMarginLoss
    >>> class Encoder(torch.nn.Linear):  # [batch, time, 1] -> [batch, 1, 4]
    ...     def forward(self, feats):
    ...         return super().forward(feats.mean(1, keepdim=True))
    >>> class Keep(torch.nn.Module):
    ...     def forward(self, x, lens=None):
    ...         return x.unsqueeze(-1) if lens is None else x
    >>> brain = SupConSpeakerBrain(
    ...     modules={
    ...         "compute_features": Keep(),
    ...         "mean_var_norm": Keep(),
    ...         "embedding_model": Encoder(1, 4),
    ...         "classifier": Classifier(4, out_neurons=2),
    ...     },
    ...     opt_class=lambda params: torch.optim.SGD(params, lr=0.1),
    ...     hparams={
    ...         "compute_cost": LogSoftmaxWrapper(
    ...             AdditiveAngularMargin(0.2, 30)
    ...         ),
    ...         "contrastive_loss": SupConMarginLoss(),
    ...         "attention": ClassAwareAttention(),
    ...         "balancer": MinNormBalancer(),
    ...     },
    ... )
    >>> from speechbrain.dataio.batch import PaddedBatch
    >>> batch = PaddedBatch(
    ...     [
    ...         {
    ...             "id": str(i),
    ...             "sig": torch.rand(8),
    ...             "spk_id_encoded": torch.tensor([i % 2]),
    ...         }
    ...         for i in range(4)
    ...     ]
    ... )
    >>> brain.on_fit_start()
    >>> brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    >>> bool(brain.fit_batch(batch).isfinite())
    True
    """

    def compute_forward(self, batch, stage):
        """Waveforms to embeddings and, in training, class outputs.

        Arguments
        ---------
        batch : PaddedBatch
            ``sig`` [batch, time].
        stage : speechbrain.Stage
            The classifier and the augmentation run in training only.

        Returns
        -------
        tuple
            Embeddings [views * batch, 1, dim] in float32, outputs
            [views * batch, 1, classes] or None, relative lengths.
        """
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        training = stage == sb.Stage.TRAIN
        if training and hasattr(self.hparams, "wav_augment"):
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        # Both objectives, and the balance between them, start here in float32.
        embeddings = self.modules.embedding_model(feats).float()
        outputs = self.modules.classifier(embeddings) if training else None
        return embeddings, outputs, lens

    def compute_objectives(self, predictions, batch, stage):
        """The loss to go backward from; collects the embeddings in validation.

        Arguments
        ---------
        predictions : tuple
            What ``compute_forward`` returned.
        batch : PaddedBatch
            ``spk_id_encoded`` [batch, 1] in training, ``spk_id`` (names)
            otherwise.
        stage : speechbrain.Stage
            Training or not.

        Returns
        -------
        torch.Tensor
            0-dim; zero outside training.
        """
        embeddings, outputs, lens = predictions
        if stage != sb.Stage.TRAIN:
            self.validation_embeddings.append(embeddings.squeeze(1))
            self.validation_speakers.extend(batch.spk_id)
            return embeddings.new_zeros(())

        labels, _ = batch.spk_id_encoded
        if hasattr(self.hparams, "wav_augment"):
            labels = self.hparams.wav_augment.replicate_labels(labels)
        classification = self.hparams.compute_cost(outputs, labels, lens)
        if self.hparams.contrastive_loss is None:
            return classification

        attention = None
        if self.hparams.attention is not None:
            classifier = _unwrap(self.modules.classifier)
            attention = self.hparams.attention(
                embeddings, labels, classifier.weight
            )
        contrastive = self.hparams.contrastive_loss(
            embeddings, labels, attention
        )
        losses = [classification, contrastive]
        shared = embeddings
        if getattr(self.hparams, "balance_at", "embedding") == "parameters":
            encoder = self.modules.embedding_model
            shared = [p for p in encoder.parameters() if p.requires_grad]
        # Scaled as the backward pass will be: half precision would lose small
        # gradients. A common factor does not change the weights.
        weights = self.hparams.balancer(
            [self.scaler.scale(loss) for loss in losses], shared
        )
        self._log_objectives(losses, weights, attention, labels)
        return weights[0] * classification + weights[1] * contrastive

    def on_fit_batch_start(self, batch, should_step):
        """Steps a per-batch learning rate once per optimiser step."""
        self.batch_ids = getattr(batch, "id", [])
        self.buffers_before = [b.clone() for b in self.modules.buffers()]
        annealing = getattr(self.hparams, "lr_annealing", None)
        if should_step and hasattr(annealing, "on_batch_end"):
            annealing.on_batch_end(self.optimizer)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Undoes what a batch without a finite loss left in the buffers.

        ``skip_nonfinite_grads`` keeps it out of the parameters; the running
        statistics of batch normalisation would keep it for good.
        """
        if not torch.isfinite(loss):
            for buffer, before in zip(
                self.modules.buffers(), self.buffers_before
            ):
                buffer.copy_(before)

    def check_loss_isfinite(self, loss):
        """Names the utterances of a batch whose loss is not finite."""
        if not torch.isfinite(loss):
            logger.warning(
                "The loss is %s; the batch was: %s",
                loss.item(),
                ", ".join(map(str, self.batch_ids)),
            )
        super().check_loss_isfinite(loss)

    def make_dataloader(
        self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs
    ):
        """As SpeechBrain's, which forgets a custom batch sampler's epochs."""
        loader = super().make_dataloader(
            dataset, stage, ckpt_prefix, **loader_kwargs
        )
        sampler = loader_kwargs.get("batch_sampler")
        if stage == sb.Stage.TRAIN and self.train_sampler is None:
            self.train_sampler = sampler
        return loader

    def on_stage_start(self, stage, epoch=None):
        """Starts the epoch's collections."""
        if stage == sb.Stage.TRAIN:
            self.objective_sums = {}
            self.objective_count = 0
        else:
            self.validation_embeddings = []
            self.validation_speakers = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs the epoch and, after validation, anneals and saves."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            for name, total in self.objective_sums.items():
                self.train_stats[name] = float(total) / self.objective_count
            return
        error_rate = self._validation_error()
        if stage == sb.Stage.VALID:
            old_lr, new_lr = self.hparams.lr_annealing(epoch)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats=self.train_stats,
                valid_stats={"EER": error_rate},
            )
            if self.checkpointer is not None:
                self.checkpointer.save_and_keep_only(
                    meta={"EER": error_rate}, min_keys=["EER"]
                )

    def _log_objectives(self, losses, weights, attention, labels):
        """Adds to the epoch's sums, on the device: no wait for the GPU."""
        _, counts = labels.unique(return_counts=True)
        batch = {
            "classification": losses[0].detach(),
            "contrastive": losses[1].detach(),
            "weight_classification": weights[0],
            "weight_contrastive": weights[1],
            "positive_pairs": (counts * (counts - 1)).sum() / 2,
        }
        if attention is not None:
            batch["attention"] = attention.detach().mean()
        gram = getattr(self.hparams.balancer, "gram", None)
        if gram is not None:
            norms = gram.diagonal().sqrt() / self.scaler.get_scale()
            batch["grad_norm_classification"] = norms[0]
            batch["grad_norm_contrastive"] = norms[1]
        for name, value in batch.items():
            total = self.objective_sums.get(name, 0.0)
            self.objective_sums[name] = total + value
        self.objective_count += 1

    def _validation_error(self):
        """Equal error rate over all pairs of the validation utterances."""
        embeddings = F.normalize(torch.cat(self.validation_embeddings)).cpu()
        names = {name: i for i, name in enumerate(self.validation_speakers)}
        speakers = torch.tensor([names[n] for n in self.validation_speakers])
        first, second = torch.triu_indices(len(speakers), len(speakers), 1)
        scores = (embeddings @ embeddings.T)[first, second]
        labels = speakers[first] == speakers[second]
        if labels.all() or not labels.any():
            raise UserError(
                f"validation needs pairs of the same and of different "
                f"speakers, but has {len(speakers)} utterance(s) of "
                f"{len(names)} speaker(s): raise valid_speakers"
            )
        rate, _ = self.hparams.verification_error(scores, labels)
        return rate


def _unwrap(module):
    """The module below DDP's and torch.compile's wrappers."""
    for wrapper in ("module", "_orig_mod"):
        module = getattr(module, wrapper, module)
    return module
