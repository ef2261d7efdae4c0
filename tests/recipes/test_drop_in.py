"""SpeechBrain's own recipe with the README's lines, without its files.

tests/upstream/test_stock_recipe.py takes those where there is a checkout. The
yaml has the keys of SpeechBrain's train_ecapa_tdnn.yaml (1.1.2) at a size
for tests; the data set is made as its script does.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from commands import ROOT, without
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.dataio import audio_io
from speechbrain.utils.metric_stats import MetricStats
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.errors import UserError
from speechbrain_scl.samplers import SpeakerBatchSampler

README = (ROOT / "README.md").read_text(encoding="utf-8")
STOCK = Path(__file__).with_name("stock_shaped.yaml")


def section(language):
    """The first block of a language in the README's section on this."""
    (text,) = re.findall(
        r"## From SpeechBrain's own recipe\n(.*?)\n## ", README, re.DOTALL
    )
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def data(tmp_path):
    """Two utterances of each of four speakers, who hum."""
    rows, rng = {}, np.random.default_rng(0)
    for speaker in range(4):
        for take in range(2):
            path = str(tmp_path / f"{speaker}-{take}.wav")
            time = np.arange(16000) / 16000
            hum = 0.3 * np.sin(2 * np.pi * (150 + 90 * speaker) * time)
            soundfile.write(path, hum + 0.05 * rng.normal(size=16000), 16000)
            rows[path] = {"wav": path, "spk_id": str(speaker)}
    data = sb.dataio.dataset.DynamicItemDataset(rows)
    labels = sb.dataio.encoder.CategoricalEncoder()
    labels.update_from_didataset(data, "spk_id")
    data.add_dynamic_item(
        lambda wav: audio_io.load(wav)[0].squeeze(0), "wav", "sig"
    )
    data.add_dynamic_item(
        lambda name: labels.encode_sequence_torch([name]),
        "spk_id",
        "spk_id_encoded",
    )
    data.set_output_keys(["id", "sig", "spk_id_encoded"])
    return data, [row["spk_id"] for row in rows.values()]


def with_the_readmes_blocks():
    """The stock yaml with the README's keys."""
    text, added = STOCK.read_text(encoding="utf-8"), section("yaml")
    for key, _ in yaml.compose(added).value:
        text = re.sub(rf"(?m)^{key.value}:.*\n(?:[ \t]+.*\n)*", "", text)
    return text + added


@pytest.mark.parametrize("key", ["objective", "error_stats"])
def test_a_block_that_was_forgotten_is_asked_for(key):
    text = "compute_cost: !name:builtins.sum\n"
    hparams = load_hyperpyyaml(text + without(key, section("yaml")))
    if key == "error_stats":
        hparams["error_stats"] = lambda: MetricStats(metric=None)
    brain = SupConSpeakerBrain(hparams=hparams)
    with pytest.raises(UserError, match=f"{key}: .*!n.*speechbrain_scl"):
        brain.on_fit_start()


def brain_of(hparams):
    """As SpeechBrain's script makes it, after the README's import."""
    names = {}
    exec(section("python"), names)  # noqa: S102
    return names["SpeakerBrain"](
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        checkpointer=hparams["checkpointer"],
    )


@pytest.mark.parametrize(
    "objective, batches", [("stock", "ours"), ("ours", "stock")]
)
def test_the_stock_yaml_with_the_readmes_lines(
    data, tmp_path, objective, batches
):
    data, speakers = data
    overrides = {"output_folder": str(tmp_path)}
    if objective == "stock":
        overrides["objective"] = {"contrastive": None}
    hparams = load_hyperpyyaml(with_the_readmes_blocks(), overrides)
    brain = brain_of(hparams)
    before = hparams["embedding_model"].fc.conv.weight.detach().clone()
    loader = hparams["dataloader_options"]
    if batches == "ours":
        loader = {"batch_sampler": SpeakerBatchSampler(speakers, 4, 2, seed=0)}
    brain.fit(
        brain.hparams.epoch_counter,
        data,
        data,
        train_loader_kwargs=loader,
        valid_loader_kwargs=hparams["dataloader_options"],
    )
    after = hparams["embedding_model"].fc.conv.weight
    assert not torch.equal(before, after) and after.isfinite().all()
    log = (tmp_path / "train_log.txt").read_text()
    assert "valid EER" in log
    assert ("weight_contrastive" in log) == (objective == "ours")
