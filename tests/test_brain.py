"""The Brain against the stock recipe's Brain, and against its own promises."""

import copy
import functools
import logging
import re

import pytest
import torch

import speechbrain as sb
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import DropChunk
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain.nnet.schedulers import CyclicLRScheduler
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.seed import seed_everything
from speechbrain.utils.train_logger import FileTrainLogger
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import FixedBalancer, MinNormBalancer
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.validation import VerificationErrorStats
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective
from speechbrain_scl.samplers import SpeakerBatchSampler

N_SPEAKERS = 4
LOGGED = (
    "classification contrastive weight_classification weight_contrastive "
    "attention grad_norm_classification grad_norm_contrastive positive_pairs"
).split()


def item(index):
    """One row of a training batch: a tone per speaker in noise."""
    generator = torch.Generator().manual_seed(index)
    speaker = index % N_SPEAKERS
    time = torch.arange(2400) / 16000
    tone = torch.sin(2 * torch.pi * (300 + 200 * speaker) * time)
    return {
        "id": f"utt{index}",
        "sig": 0.3 * tone + 0.05 * torch.randn(2400, generator=generator),
        "spk_id": f"spk{speaker}",
        "spk_id_encoded": torch.tensor([speaker]),
    }


def batch(n=8):
    return PaddedBatch([item(i) for i in range(n)])


def dataset():
    """Twelve utterances as the recipe's scripts would give them."""
    keys = ["sig", "spk_id", "spk_id_encoded"]
    data = DynamicItemDataset({f"utt{i}": {"i": i} for i in range(12)})
    for key in keys:
        data.add_dynamic_item(
            lambda i, key=key: item(i)[key], takes="i", provides=key
        )
    data.set_output_keys(["id", *keys])
    return data


def experiment(folder=None, parts=None, **changes):
    """Modules and hparams of a small experiment, equal for an equal seed."""
    seed_everything(1)
    modules = {
        "compute_features": Fbank(n_mels=20),
        "mean_var_norm": InputNormalization(
            norm_type="sentence", std_norm=False
        ),
        "embedding_model": ECAPA_TDNN(
            20,
            channels=[8, 8, 8, 8, 24],
            attention_channels=8,
            se_channels=8,
            lin_neurons=12,
        ),
        "classifier": Classifier(12, out_neurons=N_SPEAKERS),
    }
    objective = {
        "classification": LogSoftmaxWrapper(AdditiveAngularMargin(0.2, 30)),
        "contrastive": SupConMarginLoss(),
        "attention": ClassAwareAttention(),
        "balancer": MinNormBalancer("l2"),
        **(parts or {}),
    }
    hparams = {
        "objective": Objective(**objective),
        "wav_augment": Augmenter(
            concat_original=True,
            max_augmentations=1,
            shuffle_augmentations=True,
            augmentations=[DropChunk(100, 200), DropChunk(400, 800)],
        ),
        "lr_annealing": CyclicLRScheduler(1e-8, 1e-2, 3),
        "error_stats": VerificationErrorStats,
    }
    checkpointer = None
    if folder is not None:
        counter = hparams["epoch_counter"] = EpochCounter(2)
        hparams["train_logger"] = FileTrainLogger(str(folder / "log.txt"))
        checkpointer = Checkpointer(folder, {"counter": counter})
    return {
        "modules": modules,
        "hparams": {**hparams, **changes},
        "opt_class": functools.partial(torch.optim.Adam, lr=1e-3),
        "checkpointer": checkpointer,
    }


def started(brain):
    """A Brain that is ready for fit_batch."""
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    brain.nonfinite_count = 0
    return brain


class StockBrain(sb.core.Brain):
    """What SpeechBrain's VoxCeleb recipe trains with, restated."""

    def compute_forward(self, batch, stage):
        wavs, lens = batch.to(self.device).sig
        wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats)
        return self.modules.classifier(embeddings), lens

    def compute_objectives(self, predictions, batch, stage):
        outputs, lens = predictions
        labels = self.hparams.wav_augment.replicate_labels(
            batch.spk_id_encoded[0]
        )
        cost = self.hparams.objective.classification
        loss = cost(outputs, labels, lens)
        self.hparams.lr_annealing.on_batch_end(self.optimizer)
        return loss


def test_without_contrast_it_is_the_stock_brain():
    batches = list(SpeakerBatchSampler([i % 4 for i in range(16)], 4, 2, 0))
    losses, weights = [], []
    for brain_class, changes in (
        (StockBrain, {}),
        (SupConSpeakerBrain, {"parts": {"contrastive": None}}),
    ):
        brain = brain_class(**experiment(**changes))
        brain.on_fit_start()
        brain.on_stage_start(sb.Stage.TRAIN, 1)
        brain.modules.train()
        seed_everything(7)
        losses.append([])
        for indices in batches:
            brain.step += 1
            rows = PaddedBatch([item(i) for i in indices])
            losses[-1].append(brain.fit_batch(rows).item())
        weights.append(
            torch.cat([p.flatten() for p in brain.modules.parameters()])
        )
    assert losses[0] == losses[1]
    assert torch.equal(*weights)
    assert len(set(losses[0])) == len(losses[0])  # it trained


def test_the_gradient_is_the_objectives_in_one_encoder_pass():
    brain = SupConSpeakerBrain(
        **experiment(wav_augment=None), run_opts={"max_grad_norm": 1e9}
    )
    rows, modules = batch(), copy.deepcopy(brain.modules)
    feats = modules.compute_features(rows.sig[0])
    feats = modules.mean_var_norm(feats, rows.sig[1])
    embeddings = modules.embedding_model(feats)
    labels = rows.spk_id_encoded[0]
    brain.hparams.objective(embeddings, labels, modules.classifier).backward()

    passes, gradients = [], []
    encoder = brain.modules.embedding_model
    encoder.register_forward_hook(lambda *_: passes.append("forward"))
    encoder.fc.register_full_backward_hook(lambda *_: passes.append("back"))
    started(brain).optimizers_step = lambda: gradients.extend(
        p.grad.clone() for p in brain.modules.parameters()
    )
    brain.fit_batch(rows)
    assert passes == ["forward", "back"]
    for found, wanted in zip(gradients, modules.parameters()):
        torch.testing.assert_close(found, wanted.grad)


@pytest.mark.parametrize(
    "changes, precision",
    [
        ({}, "bf16"),
        ({"balance_at": "parameters"}, "bf16"),
        ({"parts": {"attention": None, "balancer": FixedBalancer()}}, "fp32"),
    ],
)
def test_variants_train(changes, precision):
    run_opts = {"precision": precision, "grad_accumulation_factor": 2}
    brain = SupConSpeakerBrain(**experiment(**changes), run_opts=run_opts)
    dtypes = []
    for name in ("embedding_model", "classifier"):
        brain.modules[name].register_forward_hook(
            lambda module, _, output: dtypes.append(output.dtype)
        )
    started(brain)
    before = copy.deepcopy(brain.modules.state_dict())
    for brain.step, n_steps in ((1, 0), (2, 1)):
        assert brain.fit_batch(batch()).isfinite()
        assert brain.optimizer_step == n_steps
    # A per-batch learning rate moves with the optimiser, not the micro-batch.
    assert brain.hparams.lr_annealing.clr_iterations == 1
    after = brain.modules.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    # All from the embedding on is float32.
    encoder = torch.bfloat16 if precision == "bf16" else torch.float32
    assert dtypes == 2 * [encoder, torch.float32]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_non_finite_loss_never_reaches_the_weights(caplog, precision):
    made = experiment()
    run_opts = {"nonfinite_patience": 1, "precision": precision}
    brain = started(SupConSpeakerBrain(**made, run_opts=run_opts))
    before = copy.deepcopy(brain.modules.state_dict())
    rows = [item(i) for i in range(8)]
    rows[3]["sig"] = torch.full((2400,), float("nan"))
    with caplog.at_level(logging.WARNING):
        brain.fit_batch(PaddedBatch(rows))
    assert "utt3" in caplog.text
    for name, value in brain.modules.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert brain.progress.means() == {}
    with pytest.raises(UserError, match="nonfinite_patience is 1.*utt3"):
        brain.fit_batch(PaddedBatch(rows))


def test_a_batch_without_a_pair_trains_the_classifier():
    brain = started(SupConSpeakerBrain(**experiment(wav_augment=None)))
    assert brain.fit_batch(batch(4)) > 0
    assert brain.progress.means()["contrastive"] == 0
    assert brain.progress.means()["weight_classification"] == 1


def fit(brain, valid=True):
    """Trains on all utterances, as the recipe does."""
    speakers = [i % N_SPEAKERS for i in range(12)]
    brain.fit(
        brain.hparams.epoch_counter,
        dataset(),
        dataset() if valid else None,
        progressbar=False,
        train_loader_kwargs={
            "batch_sampler": SpeakerBatchSampler(speakers, 2, 2, seed=3)
        },
        valid_loader_kwargs={"batch_size": 7},
    )


def test_two_epochs_and_a_test(tmp_path, monkeypatch, caplog):
    """What they leave in log and checkpoint, and what they moved."""
    moved = []

    def to(batch, *args, **kwargs):
        moved.append(tuple(batch.id))
        return stock(batch, *args, **kwargs)

    stock = PaddedBatch.to
    monkeypatch.setattr(PaddedBatch, "to", to)
    brain = SupConSpeakerBrain(**experiment(tmp_path))
    fit(brain)
    # Each batch once: 8 pairs by two for training, 12 utterances by 7 after it
    assert len(moved) == 2 * (4 + 2)
    assert moved[:4] != moved[6:10]  # each epoch has its own
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(f"{name}: " in lines[0] for name in (*LOGGED, "valid EER"))
    # 2 speakers x 2 utterances x 2 views: 2 x (4 choose 2) pairs
    assert brain.train_stats["positive_pairs"] == 12
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    assert 0 <= checkpoint.meta["EER"] <= 1
    with caplog.at_level(logging.INFO):
        brain.evaluate(dataset(), progressbar=False)
    assert re.search(r"EER of the test: \d+\.\d\d %", caplog.text)


def test_validation_embeds_each_utterance_as_if_alone():
    brain = SupConSpeakerBrain(**experiment())
    brain.on_stage_start(sb.Stage.VALID, 1)
    brain.modules.eval()
    rows = [{**item(i), "sig": item(i)["sig"][300 * i :]} for i in range(4)]
    brain.evaluate_batch(PaddedBatch(rows), sb.Stage.VALID)
    (found,) = brain.error_stats.embeddings
    encoder = brain.modules
    for row, embedding in zip(rows, found):
        features = encoder.compute_features(row["sig"][None])
        features = encoder.mean_var_norm(features, torch.ones(1))
        alone = encoder.embedding_model(features).flatten()
        torch.testing.assert_close(embedding, alone, rtol=1e-4, atol=1e-5)
    # Each speaker once: there is no pair of one.
    with pytest.raises(UserError, match="valid_speakers"):
        brain.on_stage_end(sb.Stage.VALID, 0.0, 1)


def test_what_may_lack_may_lack(tmp_path):
    """A schedule, a logger, augmentation, a validation set."""
    absent = dict.fromkeys(("wav_augment", "lr_annealing", "train_logger"))
    brain = SupConSpeakerBrain(**experiment(tmp_path, **absent))
    brain.hparams.epoch_counter.limit = 1
    fit(brain, valid=False)
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    assert checkpoint.meta["end-of-epoch"] and "EER" not in checkpoint.meta


def test_several_optimizers():
    """As an override of SpeechBrain's init_optimizers makes them."""

    class Two(SupConSpeakerBrain):
        def init_optimizers(self):
            self.optimizers_dict = {
                name: torch.optim.SGD(self.modules[name].parameters(), lr=0.1)
                for name in ("embedding_model", "classifier")
            }

    brain = started(Two(**experiment(lr_annealing=None)))
    before = copy.deepcopy(brain.modules.state_dict())
    brain.fit_batch(batch())
    after = brain.modules.state_dict()
    for name in ("embedding_model.fc.conv.weight", "classifier.weight"):
        assert not torch.equal(before[name], after[name])
    with pytest.raises(UserError, match="lr_annealing: .* one optimizer"):
        Two(**experiment()).on_fit_start()
