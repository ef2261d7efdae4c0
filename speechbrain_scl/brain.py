"""The Brain: views, features, encoder, objective."""

import torch

import speechbrain as sb
from speechbrain.utils.distributed import ddp_broadcast
from speechbrain.utils.logger import get_logger
from speechbrain.utils.metric_stats import MetricStats
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.packed import AnyLength
from speechbrain_scl.training.resilience import ResilientBrain
from speechbrain_scl.training.schedules import anneal_epoch, anneal_step

logger = get_logger(__name__)


class SupConSpeakerBrain(ResilientBrain):
    """Trains speaker embeddings by an ``Objective``.

    A training step makes the views (the augmenter's, the clean crop among
    them), runs features and encoder over them once, and goes backward once
    from the objective at the embedding. ``fit_batch`` is SpeechBrain's own, so
    mixed precision, gradient accumulation and DDP work as in any recipe.

    Validation measures the equal error rate over pairs of the validation
    utterances, whose speakers need not be in the training data. The
    checkpoints with the lowest one are kept.

    It reads the ``modules`` of SpeechBrain's VoxCeleb recipe
    (compute_features, mean_var_norm, embedding_model, classifier) and these
    ``hparams``, all but the first optional:

    - ``objective``: e.g. ``Objective``;
    - ``near_speakers``, ``label_cleaner``: those of ``training``, started;
    - ``balance_at``: embedding (default), or parameters of the encoder;
    - ``wav_augment``, ``fea_augment``: SpeechBrain's ``Augmenter``, of the
      waveforms and of the features;
    - ``error_stats``: e.g. ``evaluation.validation.VerificationErrorStats``,
      required for validation;
    - ``lr_annealing``: any schedule of SpeechBrain or ``training.schedules``;
    - ``margin_warmup``: e.g. ``training.schedules.MarginWarmup``;
    - ``train_logger``: as in any recipe;
    - ``average_checkpoints``: how many checkpoints to keep, 1 by default.

    Example
    -------
    >>> from speechbrain.dataio.batch import PaddedBatch
    >>> from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    >>> from speechbrain.nnet import losses
    >>> from speechbrain.processing.features import InputNormalization
    >>> from speechbrain_scl.objective import Objective
    >>> aam = losses.LogSoftmaxWrapper(losses.AdditiveAngularMargin(0.2, 30))
    >>> brain = SupConSpeakerBrain(
    ...     modules={
    ...         "compute_features": torch.nn.Unflatten(1, (1, 8)),
    ...         "mean_var_norm": InputNormalization(norm_type="global"),
    ...         "embedding_model": torch.nn.Linear(8, 4),
    ...         "classifier": Classifier(4, out_neurons=2),
    ...     },
    ...     opt_class=lambda params: torch.optim.SGD(params, lr=0.1),
    ...     hparams={"objective": Objective(aam)},
    ... )
    >>> brain.on_fit_start()
    >>> rows = [
    ...     {"id": i, "sig": torch.rand(8), "spk_id_encoded": torch.tensor([i])}
    ...     for i in (0, 0, 1, 1)
    ... ]
    >>> bool(brain.fit_batch(PaddedBatch(rows)).isfinite())
    True
    """

    def on_fit_start(self):
        """As SpeechBrain's, where nothing that it needs is missing."""
        if self._option("objective") is None:
            raise UserError(
                "objective: the experiment has none; add "
                "!new:speechbrain_scl.objective.Objective"
            )
        stats = self._option("error_stats")
        if stats is not None and isinstance(stats(), MetricStats):
            raise UserError(
                "error_stats: MetricStats knows classes and no pairs; take "
                "!name:speechbrain_scl.evaluation.validation."
                "VerificationErrorStats"
            )
        super().on_fit_start()
        if self._option("lr_annealing") and len(self.optimizers_dict) > 1:
            raise UserError(
                f"lr_annealing: it sets the rate of one optimizer, and there "
                f"are {len(self.optimizers_dict)}: leave it out"
            )
        (self.optimizer, *_) = self.optimizers_dict.values()

    def compute_forward(self, batch, stage):
        """``sig`` [batch, time] to embeddings, in training [views * batch, 1,
        dim] and their labels [views * batch, 1], which stay on the host."""
        if stage != sb.Stage.TRAIN:
            wavs, lens = batch.to(self.device).sig
            lengths = (lens * wavs.shape[1]).round().int().tolist()
            return self.embed([w[:n] for w, n in zip(wavs, lengths)]), None
        labels = batch.spk_id_encoded.data
        wavs, lens = batch.to(self.device).sig
        wavs, lens, labels = self._views("wav_augment", wavs, lens, labels)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        feats, lens, labels = self._views("fea_augment", feats, lens, labels)
        return self.modules.embedding_model(feats), labels

    def compute_objectives(self, predictions, batch, stage):
        """The loss to go backward from; in validation the embeddings are
        collected, with ``spk_id`` (names) or ``spk_id_encoded``."""
        embeddings, labels = predictions
        if stage != sb.Stage.TRAIN:
            speakers = getattr(batch, "spk_id", None)
            if speakers is None:
                speakers = batch.spk_id_encoded.data.flatten().tolist()
            self.error_stats.append(batch.id, embeddings, speakers)
            return embeddings.new_zeros(())
        parameters = None
        if self._option("balance_at") == "parameters":
            encoder = self.modules.embedding_model
            parameters = [p for p in encoder.parameters() if p.requires_grad]
        classifier = self.modules.classifier
        cleaner = self._option("label_cleaner")
        if cleaner is not None:
            embeddings, labels = cleaner(
                batch.id, embeddings, labels, classifier
            )
        return self.hparams.objective(
            embeddings, labels, classifier, parameters, self.scaler
        )

    def on_fit_batch_start(self, batch, should_step):
        super().on_fit_batch_start(batch, should_step)
        if self._option("margin_warmup") is not None:
            self.hparams.margin_warmup.update(self.epochs_done)
        if should_step:
            anneal_step(
                self._option("lr_annealing"),
                self.optimizer,
                self.epochs_done,
                self.optimizer_step,
            )

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        if self.loss_is_finite:
            self.progress.add(self.hparams.objective.log)

    def on_stage_start(self, stage, epoch=None):
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            near = self._option("near_speakers")
            if near is not None:
                near.start_epoch(epoch, self.modules.classifier)
            train_logger = self._option("train_logger")
            if hasattr(train_logger, "start_epoch"):
                train_logger.start_epoch()
        else:
            self.error_stats = self.hparams.error_stats()
            self.embed = AnyLength(self._alone, self.modules)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs the epoch and, after validation, anneals and saves."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss, **self.progress.means()}
            if self._option("label_cleaner") is not None:
                self.hparams.label_cleaner.end_epoch()
            return
        # A schedule must not find another rate in the last digit.
        error_rate = ddp_broadcast(self.error_stats.summarize("EER"))
        if stage == sb.Stage.VALID:
            self._end_epoch(epoch, {"EER": error_rate})
        else:
            logger.info("EER of the test: %.2f %%", 100 * error_rate)
        super().on_stage_end(stage, stage_loss, epoch)

    def _fit_valid(self, valid_set, epoch, enable):
        super()._fit_valid(valid_set, epoch, enable)
        if valid_set is None:
            self._end_epoch(epoch, {})

    def _end_epoch(self, epoch, valid_stats):
        schedule, eer = self._option("lr_annealing"), valid_stats.get("EER")
        rate = anneal_epoch(schedule, self.optimizer, epoch, eer)
        if self._option("train_logger") is not None:
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": rate},
                train_stats=self.train_stats,
                valid_stats=valid_stats,
            )
        # The sum's weights change; this part is always the same measure.
        loss = self.train_stats.get("classification", self.train_stats["loss"])
        self.progress.warn_unless_learning(epoch, loss, eer)
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(
                meta=valid_stats,
                min_keys=list(valid_stats),
                num_to_keep=self._option("average_checkpoints", 1),
            )

    def _views(self, name, signals, lens, labels):
        augmenter = self._option(name)
        if augmenter is None:
            return signals, lens, labels
        signals, lens = augmenter(signals, lens)
        return signals, lens, augmenter.replicate_labels(labels)

    def _alone(self, wavs):
        """Waveforms [batch, time] of one length to embeddings [batch, dim]."""
        lens = torch.ones(len(wavs), device=wavs.device)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        return self.modules.embedding_model(feats).flatten(1)

    def _option(self, name, otherwise=None):
        return getattr(self.hparams, name, otherwise)
