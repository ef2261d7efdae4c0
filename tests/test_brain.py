"""The Brain against the stock recipe's Brain, and against its own promises."""

import copy
import functools
import logging
import re

import pytest
import small_brain as small
import torch

import speechbrain as sb
from speechbrain.augment.time_domain import DropChunk
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.nnet.schedulers import CyclicLRScheduler
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.seed import seed_everything
from speechbrain.utils.train_logger import FileTrainLogger
from speechbrain_scl.balancing import FixedBalancer
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.validation import VerificationErrorStats
from speechbrain_scl.samplers import SpeakerBatchSampler

N_SPEAKERS = 4
LOGGED = (
    "classification contrastive weight_classification weight_contrastive "
    "attention grad_norm_classification grad_norm_contrastive positive_pairs"
).split()


def signal(index):
    """A tone per speaker in noise."""
    generator = torch.Generator().manual_seed(index)
    time = torch.arange(2400) / 16000
    tone = torch.sin(2 * torch.pi * (300 + 200 * (index % N_SPEAKERS)) * time)
    return 0.3 * tone + 0.05 * torch.randn(2400, generator=generator)


def batch(indices=range(8)):
    return small.batch_of(
        map(signal, indices), [i % N_SPEAKERS for i in indices]
    )


def broken():
    signals = [signal(i) for i in range(8)]
    signals[3] *= float("nan")
    return small.batch_of(signals, [i % N_SPEAKERS for i in range(8)])


def dataset():
    """Twelve utterances as the recipe's scripts would give them."""
    whole = batch(range(12))
    data = DynamicItemDataset({f"utt{i}": {"i": i} for i in range(12)})
    given = {"sig": signal, "spk_id": whole.spk_id.__getitem__}
    given["spk_id_encoded"] = whole.spk_id_encoded.data.__getitem__
    for key, item in given.items():
        data.add_dynamic_item(item, takes="i", provides=key)
    data.set_output_keys(["id", *given])
    return data


def experiment(
    brain_class=SupConSpeakerBrain, folder=None, parts={}, opts={}, **changes
):
    """The Brain of a small experiment, equal for an equal seed."""
    seed_everything(1)
    hparams = {
        "objective": small.objective(**parts),
        "wav_augment": small.views_by(DropChunk(100, 200), DropChunk(400, 800)),
        "lr_annealing": CyclicLRScheduler(1e-8, 1e-2, 3),
        "error_stats": VerificationErrorStats,
    }
    checkpointer = None
    if folder is not None:
        counter = hparams["epoch_counter"] = EpochCounter(2)
        hparams["train_logger"] = FileTrainLogger(str(folder / "log.txt"))
        checkpointer = Checkpointer(folder, {"counter": counter})
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    given = small.modules_of(N_SPEAKERS), adam, {**hparams, **changes}
    return brain_class(*given, opts, checkpointer)


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
        labels = batch.spk_id_encoded[0]
        labels = self.hparams.wav_augment.replicate_labels(labels)
        cost = self.hparams.objective.classification
        loss = cost(outputs, labels, lens)
        self.hparams.lr_annealing.on_batch_end(self.optimizer)
        return loss


def test_without_contrast_it_is_the_stock_brain():
    batches = list(SpeakerBatchSampler([i % 4 for i in range(16)], 4, 2, 0))
    losses, weights = [], []
    for brain_class in (StockBrain, SupConSpeakerBrain):
        brain = small.started(
            experiment(brain_class, parts={"contrastive": None})
        )
        seed_everything(7)
        losses.append([])
        for brain.step, indices in enumerate(batches, 1):
            losses[-1].append(brain.fit_batch(batch(indices)).item())
        weights.append(small.parameters_of(brain.modules))
    assert losses[0] == losses[1]
    assert torch.equal(*weights)
    assert len(set(losses[0])) == len(losses[0])  # it trained


def test_the_gradient_is_the_objectives_in_one_encoder_pass():
    brain = experiment(opts={"max_grad_norm": 1e9}, wav_augment=None)
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
    small.started(brain).optimizers_step = lambda: gradients.extend(
        p.grad.clone() for p in brain.modules.parameters()
    )
    brain.fit_batch(rows)
    assert passes == ["forward", "back"]
    for found, wanted in zip(gradients, modules.parameters()):
        torch.testing.assert_close(found, wanted.grad)


@pytest.mark.parametrize(
    "precision, parts",
    [
        ("bf16", {}),
        ("fp32", {"attention": None, "balancer": FixedBalancer()}),
    ],
)
def test_variants_train(precision, parts):
    opts = {"precision": precision, "grad_accumulation_factor": 2}
    brain, dtypes = experiment(parts=parts, opts=opts), []
    for name in ("embedding_model", "classifier"):
        brain.modules[name].register_forward_hook(
            lambda module, _, output: dtypes.append(output.dtype)
        )
    small.started(brain)
    before = small.parameters_of(brain.modules)
    for brain.step, n_steps in ((1, 0), (2, 1)):
        assert brain.fit_batch(batch()).isfinite()
        assert brain.optimizer_step == n_steps
    # A per-batch learning rate moves with the optimiser, not the micro-batch.
    assert brain.hparams.lr_annealing.clr_iterations == 1
    assert not torch.equal(before, small.parameters_of(brain.modules))
    # All from the embedding on is float32.
    encoder = torch.bfloat16 if precision == "bf16" else torch.float32
    assert dtypes == 2 * [encoder, torch.float32]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_non_finite_loss_never_reaches_the_weights(caplog, precision):
    opts = {"nonfinite_patience": 1, "precision": precision}
    brain = small.started(experiment(opts=opts))
    before = copy.deepcopy(brain.modules.state_dict())
    with caplog.at_level(logging.WARNING):
        brain.fit_batch(broken())
    assert "utt3" in caplog.text
    for name, value in brain.modules.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert brain.progress.means() == {}
    with pytest.raises(UserError, match="nonfinite_patience is 1.*utt3"):
        brain.fit_batch(broken())


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
    brain = experiment(folder=tmp_path)
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
    brain = experiment()
    brain.on_stage_start(sb.Stage.VALID, 1)
    brain.modules.eval()
    signals = [signal(i)[300 * i :] for i in range(4)]
    brain.evaluate_batch(small.batch_of(signals, range(4)), sb.Stage.VALID)
    (found,) = brain.error_stats.embeddings
    for wav, embedding in zip(signals, found):
        features = brain.modules.compute_features(wav[None])
        features = brain.modules.mean_var_norm(features, torch.ones(1))
        alone = brain.modules.embedding_model(features).flatten()
        torch.testing.assert_close(embedding, alone, rtol=1e-4, atol=1e-5)
    # Each speaker once: there is no pair of one.
    with pytest.raises(UserError, match="valid_speakers"):
        brain.on_stage_end(sb.Stage.VALID, 0.0, 1)


def test_what_may_lack_may_lack(tmp_path):
    """A schedule, a logger, augmentation, a validation set."""
    absent = dict.fromkeys(("wav_augment", "lr_annealing", "train_logger"))
    brain = experiment(folder=tmp_path, **absent)
    brain.hparams.epoch_counter.limit = 1
    fit(brain, valid=False)
    (checkpoint,) = brain.checkpointer.list_checkpoints()
    assert checkpoint.meta["end-of-epoch"] and "EER" not in checkpoint.meta


def test_several_optimizers():
    """As an override of SpeechBrain's init_optimizers makes them."""

    names = "embedding_model", "classifier"

    class Two(SupConSpeakerBrain):
        def init_optimizers(self):
            self.optimizers_dict = {
                name: torch.optim.SGD(self.modules[name].parameters(), lr=0.1)
                for name in names
            }

    brain = small.started(experiment(Two, lr_annealing=None))
    before = [small.parameters_of(brain.modules[name]) for name in names]
    brain.fit_batch(batch())
    after = [small.parameters_of(brain.modules[name]) for name in names]
    assert not any(map(torch.equal, before, after))
    with pytest.raises(UserError, match="lr_annealing: .* one optimizer"):
        experiment(Two).on_fit_start()
