"""The Brain: views, features, encoder, objectives, one backward."""

import torch

import speechbrain as sb
from speechbrain.utils.distributed import ddp_broadcast
from speechbrain.utils.logger import get_logger
from speechbrain_scl.distributed import all_reduce_sum, world_size
from speechbrain_scl.evaluation.validation import validation_error
from speechbrain_scl.training.classifiers import (
    SampledClassifier,
    gives_cosines,
)
from speechbrain_scl.training.resilience import ResilientBrain

logger = get_logger(__name__)


class SupConSpeakerBrain(ResilientBrain):
    """Trains speaker embeddings by classification and margin contrast.

    A training step makes the views (the augmenter's, the clean crop among
    them), runs features and encoder over them once, computes the
    classification loss and the contrastive loss at the embedding, and adds
    them with the balancer's weights:

        L = w_1 L_classification + w_2 L_contrastive

    ``fit_batch`` is SpeechBrain's own, so mixed precision, gradient
    accumulation and DDP work as in any recipe. Without ``contrastive_loss``
    this is the Brain of SpeechBrain's VoxCeleb recipe, with the same losses.

    Validation measures the equal error rate over all pairs of the validation
    utterances (of 3,000, spread over the speakers, where there are more),
    whose speakers need not be in the training data.

    It reads these ``hparams``:

    - ``modules``: compute_features, mean_var_norm, embedding_model, classifier
      (the classifier's ``weight`` holds the class vectors);
    - ``compute_cost``: the classification loss of (outputs, labels, lengths);
    - ``contrastive_loss``: e.g. ``SupConMarginLoss``; none where it lacks or
      is null, as all that follow but ``verification_error``;
    - ``contrastive_projection``: a module that the contrastive loss sees the
      embeddings through; the Brain trains and saves it;
    - ``attention``: e.g. ``ClassAwareAttention``;
    - ``balancer``: a ``balancing.Balancer``, e.g. ``MinNormBalancer``;
    - ``balance_at``: embedding (default) or parameters (of the encoder: exact
      MGDA, one more backward pass through the encoder per objective);
    - ``wav_augment``: a SpeechBrain ``Augmenter``; with ``concat_original``
      the clean crop is the first view;
    - ``fea_augment``: the same for the features, e.g. SpecAugment;
    - ``verification_error``: a function of (scores, labels) that returns
      (error rate, threshold), e.g. ``evaluation.metrics.eer``;
    - ``lr_annealing``: as in any recipe, or of ``training.schedules``;
    - ``margin_warmup``: e.g. ``training.schedules.MarginWarmup``;
    - ``preference_course``: e.g. ``training.schedules.PreferenceCourse``;
    - ``average_checkpoints``: how many of the best to keep, 1 where it lacks;
    - ``train_logger``: as in any recipe.

    Arguments
    ---------
    modules, opt_class, hparams, run_opts, checkpointer
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

    # Of a loader that was made elsewhere; schedules then go by whole epochs.
    batches_per_epoch = float("inf")

    def __init__(
        self,
        modules=None,
        opt_class=None,
        hparams=None,
        run_opts=None,
        checkpointer=None,
    ):
        projection = (hparams or {}).get("contrastive_projection")
        if projection is not None:
            name = "contrastive_projection"
            modules = {**modules, name: projection}
            if checkpointer is not None:
                checkpointer.add_recoverable(name, projection)
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)

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
            Embeddings [views * batch, 1, dim] in float32, in training the
            outputs [views * batch, 1, classes] and the labels among those
            classes (a classifier may take a sample of them), relative lengths.
        """
        training = stage == sb.Stage.TRAIN
        if training:
            # Who speaks where is found without a wait for the device.
            self.labels_on_host = batch.spk_id_encoded.data
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        if training and self._option("wav_augment") is not None:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        if training and self._option("fea_augment") is not None:
            feats, lens = self.hparams.fea_augment(feats, lens)
        # From here on all is float32, at any precision of the encoder.
        embeddings = self.modules.embedding_model(feats).float()
        outputs = None
        if training:
            with self._float32():
                outputs = self._classify(embeddings, batch)
        return embeddings, outputs, lens

    def _classify(self, embeddings, batch):
        """The outputs, and the labels by the numbers of their columns."""
        labels = self._of_views(batch.spk_id_encoded.data)
        if isinstance(_unwrap(self.modules.classifier), SampledClassifier):
            return self.modules.classifier(embeddings, labels)
        return self.modules.classifier(embeddings), labels

    def compute_objectives(self, predictions, batch, stage):
        """The loss to go backward from; collects the embeddings in validation.

        Arguments
        ---------
        predictions : tuple
            What ``compute_forward`` returned.
        batch : PaddedBatch
            ``spk_id_encoded`` [batch, 1] in training; otherwise that or
            ``spk_id`` (names).
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
            # SpeechBrain's recipes validate with classes instead of names.
            self.validation_speakers.extend(
                batch.spk_id
                if hasattr(batch, "spk_id")
                else batch.spk_id_encoded.data.flatten().tolist()
            )
            return embeddings.new_zeros(())

        labels = self._of_views(batch.spk_id_encoded.data)
        outputs, classes = outputs
        classification = self.hparams.compute_cost(outputs, classes, lens)
        classification = classification * self._share_of_process(len(labels))
        if self._option("contrastive_loss") is None:
            return classification

        attention = None
        if self._option("attention") is not None:
            attention = self._attention(embeddings, labels, outputs, classes)
        labels_on_host = self._of_views(self.labels_on_host)
        seen = embeddings
        if self._option("contrastive_projection") is not None:
            with self._float32():
                seen = self.modules.contrastive_projection(embeddings)
        # Who speaks where is found from labels on the host: no wait.
        contrastive = self.hparams.contrastive_loss(
            seen, labels_on_host, attention
        )
        losses = [classification, contrastive]
        shared = embeddings
        if self._option("balance_at") == "parameters":
            encoder = self.modules.embedding_model
            shared = [p for p in encoder.parameters() if p.requires_grad]
        # Scaled as the backward pass will be: half precision would lose small
        # gradients. A common factor does not change the weights.
        balance = self.hparams.balancer.balance(
            [self.scaler.scale(loss) for loss in losses], shared
        )
        self._log_objectives(losses, balance, attention, labels_on_host)
        weights = balance.weights
        return weights[0] * classification + weights[1] * contrastive

    def _attention(self, embeddings, labels, outputs, classes):
        """By the classifier's outputs where they are the cosines already."""
        classifier = _unwrap(self.modules.classifier)
        attention = self.hparams.attention
        if gives_cosines(classifier) and hasattr(attention, "of_cosines"):
            return attention.of_cosines(outputs, classes)
        return attention(embeddings, labels, classifier.weight)

    def _of_views(self, labels):
        """The labels of a batch, repeated for the augmenters' views of it."""
        for name in ("wav_augment", "fea_augment"):
            augmenter = self._option(name)
            if augmenter is not None:
                labels = augmenter.replicate_labels(labels)
        return labels

    def _share_of_process(self, n_local):
        """DDP averages over the processes; a mean over all utterances weighs a
        process by how many it holds."""
        if world_size() == 1:
            return 1.0
        n_local = torch.full((), float(n_local), device=self.device)
        return n_local * world_size() / all_reduce_sum(n_local)

    def on_fit_batch_start(self, batch, should_step):
        """Sets what changes within an epoch."""
        super().on_fit_batch_start(batch, should_step)
        self.batch_values = {}
        _restart_recordings(self._option("wav_augment"))
        done = self.epoch - 1 + (self.step - 1) / self.batches_per_epoch
        self._update_objectives(done)
        self._update_learning_rate(done, should_step)

    def _update_objectives(self, done):
        """Margins and preferences, ``done`` epochs into the training."""
        if self._option("margin_warmup") is not None:
            self.hparams.margin_warmup.update(done)
        if self._option("preference_course") is not None:
            self.hparams.preference_course.update(done)

    def _update_learning_rate(self, done, should_step):
        """As the schedule wants it: by time, by optimiser step, or not yet."""
        annealing = self._option("lr_annealing")
        if hasattr(annealing, "at"):
            rate = annealing.at(done)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, rate)
        elif should_step and hasattr(annealing, "on_batch_end"):
            annealing.on_batch_end(self.optimizer)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Adds what the log shows of a batch that counts."""
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        if self.loss_is_finite:
            self.progress.add(self.batch_values)

    def make_dataloader(
        self, dataset, stage, ckpt_prefix="dataloader-", **loader_kwargs
    ):
        """As SpeechBrain's, which forgets a custom batch sampler's epochs."""
        loader = super().make_dataloader(
            dataset, stage, ckpt_prefix, **loader_kwargs
        )
        sampler = loader_kwargs.get("batch_sampler")
        if stage == sb.Stage.TRAIN:
            self.batches_per_epoch = len(loader)
            if self.train_sampler is None:
                self.train_sampler = sampler
        return loader

    def on_stage_start(self, stage, epoch=None):
        """Starts the epoch's collections."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.epoch = epoch
            logger_of_epochs = self._option("train_logger")
            if hasattr(logger_of_epochs, "start_epoch"):
                logger_of_epochs.start_epoch()
        else:
            self.validation_embeddings = []
            self.validation_speakers = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs the epoch and, after validation, anneals and saves."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss, **self.progress.means()}
            return
        error_rate = validation_error(
            torch.cat(self.validation_embeddings),
            self.validation_speakers,
            self.hparams.verification_error,
        )
        # All processes have seen all utterances; a schedule that reads the
        # rate must not find another one in the last digit.
        error_rate = ddp_broadcast(error_rate)
        if stage == sb.Stage.VALID:
            old_lr, new_lr = self.hparams.lr_annealing(epoch)
            sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats=self.train_stats,
                valid_stats={"EER": error_rate},
            )
            # The sum's weights change from batch to batch; this part is
            # always the same measure.
            loss = self.train_stats.get(
                "classification", self.train_stats["loss"]
            )
            self.progress.warn_unless_learning(epoch, loss, error_rate)
            if self.checkpointer is not None:
                self.checkpointer.save_and_keep_only(
                    meta={"EER": error_rate},
                    min_keys=["EER"],
                    num_to_keep=self._option("average_checkpoints", 1),
                )
        super().on_stage_end(stage, stage_loss, epoch)

    def _float32(self):
        """Autocast off: half precision costs a classifier of many classes up
        to some per cent of its gradient."""
        device_type = torch.device(self.device).type
        return torch.autocast(device_type, enabled=False)

    def _option(self, name, otherwise=None):
        """An entry that an experiment may leave out."""
        return getattr(self.hparams, name, otherwise)

    def _log_objectives(self, losses, balance, attention, labels_on_host):
        """What on_fit_batch_end adds to the epoch's means."""
        _, counts = labels_on_host.unique(return_counts=True)
        batch = {
            "classification": losses[0].detach(),
            "contrastive": losses[1].detach(),
            "weight_classification": balance.weights[0],
            "weight_contrastive": balance.weights[1],
            "positive_pairs": (counts * (counts - 1)).sum().item() / 2,
        }
        if attention is not None:
            batch["attention"] = attention.detach().mean()
        if balance.gram is not None:
            norms = balance.gram.diagonal().sqrt()
            norms = norms / self.scaler.scale(torch.ones_like(norms[0]))
            batch["grad_norm_classification"] = norms[0]
            batch["grad_norm_contrastive"] = norms[1]
        self.batch_values = batch


def _unwrap(module):
    """The module below DDP's and torch.compile's wrappers."""
    for wrapper in ("module", "_orig_mod"):
        module = getattr(module, wrapper, module)
    return module


def _restart_recordings(augmenter):
    """Lets the augmentations choose noises and rooms anew for each batch.

    Their loaders otherwise walk through a shuffled list, and their place in
    it is in no checkpoint.
    """
    for augmentation in getattr(augmenter, "augmentations", {}).values():
        for name in ("noise_data", "rir_data"):
            if hasattr(augmentation, name):
                setattr(augmentation, name, iter(()))
