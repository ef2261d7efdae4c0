"""A Brain and its batches, small, for tests without a recipe."""

import torch
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.augment.augmenter import Augmenter
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain_scl.attention import ClassAwareAttention
from speechbrain_scl.balancing import MinNormBalancer
from speechbrain_scl.losses import SupConMarginLoss
from speechbrain_scl.objective import Objective

UNTRAINED = """
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 20
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 20
    channels: [16, 16, 16, 16, 48]
    attention_channels: 8
    se_channels: 8
    lin_neurons: 12
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 12
    out_neurons: 2
"""


def modules_of(n_speakers):
    modules = load_hyperpyyaml(
        UNTRAINED, {"classifier": {"out_neurons": n_speakers}}
    )
    del modules["sample_rate"]
    return modules


class Keep(torch.nn.Module):
    def forward(self, features, lens):
        return features


def linear_modules(n_samples, n_speakers):
    """The least that trains, without statistics of a batch."""
    return {
        "compute_features": torch.nn.Unflatten(1, (1, n_samples)),
        "mean_var_norm": Keep(),
        "embedding_model": torch.nn.Linear(n_samples, 4),
        "classifier": Classifier(4, out_neurons=n_speakers),
    }


def views_by(*augmentations):
    """The clean one, and one that has been augmented."""
    return Augmenter(
        concat_original=True,
        max_augmentations=1,
        shuffle_augmentations=True,
        augmentations=list(augmentations),
    )


def aam(scale=30):
    return LogSoftmaxWrapper(AdditiveAngularMargin(0.2, scale))


def objective(gather=False, **parts):
    """All of it, but for other parts."""
    whole = {
        "classification": aam(),
        "contrastive": SupConMarginLoss(gather=gather),
        "attention": ClassAwareAttention(gather=gather),
        "balancer": MinNormBalancer("l2", [5, 1]),
    }
    return Objective(**{**whole, **parts})


def batch_of(signals, labels):
    """As a recipe's loader gives it."""
    rows = [
        {
            "id": f"utt{i}",
            "sig": signal,
            "spk_id": f"spk{label}",
            "spk_id_encoded": torch.tensor([int(label)]),
        }
        for i, (signal, label) in enumerate(zip(signals, labels))
    ]
    return PaddedBatch(rows)


def started(brain):
    """A Brain that is ready for fit_batch."""
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.modules.train()
    return brain


def parameters_of(module):
    """All in one vector."""
    vector = torch.nn.utils.parameters_to_vector(module.parameters())
    return vector.detach().clone()
