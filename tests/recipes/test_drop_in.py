"""SpeechBrain's own recipe with the README's lines, without its files.

tests/upstream/test_stock_recipe.py takes those where there is a checkout. The
yaml has the keys of SpeechBrain's train_ecapa_tdnn.yaml (1.1.2) at a size
for tests; the data set is made as its script does.
"""

from pathlib import Path

import pytest
import torch
from commands import readme_blocks, without
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.dataio import audio_io
from speechbrain.utils.metric_stats import MetricStats
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.errors import UserError
from speechbrain_scl.samplers import SpeakerBatchSampler

STOCK = Path(__file__).with_name("stock_shaped.yaml").read_text("utf-8")
(ADDED,) = readme_blocks("yaml")


@pytest.mark.parametrize("key", ["objective", "error_stats"])
def test_a_block_that_was_forgotten_is_asked_for(key):
    text = "compute_cost: !name:builtins.sum\n"
    hparams = load_hyperpyyaml(text + without(key, ADDED))
    if key == "error_stats":
        hparams["error_stats"] = lambda: MetricStats(metric=None)
    brain = SupConSpeakerBrain(hparams=hparams)
    with pytest.raises(UserError, match=f"{key}: .*!n.*speechbrain_scl"):
        brain.on_fit_start()


def data_of(folders):
    """The first half second of two utterances of each speaker."""
    data = sb.dataio.dataset.DynamicItemDataset(
        {
            str(path): {"wav": str(path), "spk_id": folder.name}
            for folder in folders
            for path in sorted(folder.rglob("*.wav"))[:2]
        }
    )
    labels = sb.dataio.encoder.CategoricalEncoder()
    labels.update_from_didataset(data, "spk_id")
    data.add_dynamic_item(
        lambda wav: audio_io.load(wav, num_frames=8000)[0][0], "wav", "sig"
    )
    encoded = ["spk_id", "spk_id_encoded"]
    data.add_dynamic_item(lambda x: labels.encode_sequence_torch([x]), *encoded)
    data.set_output_keys(["id", "sig", "spk_id_encoded"])
    return data


@pytest.mark.parametrize(
    "objective, batches", [("stock", "ours"), ("ours", "stock")]
)
def test_the_readmes_lines(corpus, tmp_path, objective, batches):
    data = data_of(sorted((corpus / "wav").iterdir())[:4])
    overrides = {"output_folder": str(tmp_path)}
    if objective == "stock":
        overrides["objective"] = {"contrastive": None}
    text = without("error_stats", STOCK) + ADDED
    hparams = load_hyperpyyaml(text, overrides)
    names = {}  # as the script does after the README's import
    exec(readme_blocks("python")[0], names)  # noqa: S102
    brain = names["SpeakerBrain"](
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        checkpointer=hparams["checkpointer"],
    )
    weight = hparams["embedding_model"].fc.conv.weight
    before = weight.detach().clone()
    loader = hparams["dataloader_options"]
    if batches == "ours":
        speakers = [row["spk_id"] for row in data.data.values()]
        loader = {"batch_sampler": SpeakerBatchSampler(speakers, 4, 2, seed=0)}
    brain.fit(
        brain.hparams.epoch_counter,
        data,
        data,
        train_loader_kwargs=loader,
        valid_loader_kwargs=hparams["dataloader_options"],
    )
    assert not torch.equal(before, weight) and weight.isfinite().all()
    log = (tmp_path / "train_log.txt").read_text()
    assert "valid EER" in log
    assert ("weight_contrastive" in log) == (objective == "ours")
