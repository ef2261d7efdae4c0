"""Names that experiments and scripts of users hold lead where they led."""

from pydoc import locate  # as HyperPyYAML finds what a file names

import pytest

# As yaml files, recipes, the README and the documents spelt them
OLD = """
attention.ClassAwareAttention
balancing.FixedBalancer
balancing.MinNormBalancer
brain.SupConSpeakerBrain
checkpoints.CompleteCheckpointer
classifiers.SubCentreClassifier
corpora.augmentation.prepare_augmentation_folder
dataio.read_crop
evaluation.metrics.eer
experiment.read_experiment
losses.SupConMarginLoss
samplers.SpeakerBatchSampler
schedules.MarginWarmup
schedules.WarmupCosine
training.train
""".split()
NEW = {
    "checkpoints": "training.checkpoints",
    "classifiers": "training.classifiers",
    "cli": "command_line.main",
    "dataio": "training.crops",
    "experiment": "command_line.experiment",
    "finetuning": "training.finetuning",
    "hub": "release.hub",
    "inference": "release.inference",
    "margin_contrast": "_margin_contrast",
    "onnx_export": "release.onnx",
    "options": "command_line.options",
    "progress": "training.progress",
    "resilience": "training.resilience",
    "schedules": "training.schedules",
    "training": "training.run",
}


@pytest.mark.parametrize("old", OLD)
def test_old_names_lead_to_the_same_objects(old):
    module, name = old.rsplit(".", 1)
    there = locate(f"speechbrain_scl.{NEW.get(module, module)}")
    assert locate(f"speechbrain_scl.{old}") is getattr(there, name)


@pytest.mark.parametrize("old", sorted(set(NEW) - {"training"}))
def test_old_modules_are_the_new_ones(old):
    there = locate(f"speechbrain_scl.{NEW[old]}")
    assert there.__name__ == f"speechbrain_scl.{NEW[old]}"
    assert locate(f"speechbrain_scl.{old}") is there


def test_what_never_was_is_not_found():
    assert locate("speechbrain_scl.scheduels.MarginWarmup") is None
    assert locate("speechbrain_scl.training.trains") is None
