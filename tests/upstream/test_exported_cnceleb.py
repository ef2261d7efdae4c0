"""The exported recipe of CN-Celeb, on the mini corpus."""

import csv
import os
import re
import sys

import pytest
import torch
from upstream_tree import CNCELEB, TINY, load, run, train

from speechbrain.dataio import audio_io
from speechbrain.utils.metric_stats import EER, minDCF


@pytest.fixture(scope="module")
def trained_upstream(tree, cnceleb, tmp_path_factory):
    """CN-Celeb's recipe: prepared and trained through the links."""
    return train(
        tree / CNCELEB,
        cnceleb,
        tmp_path_factory.mktemp("upstream"),
        next(cnceleb.rglob("*-enroll.flac")),
        "--precision=bf16",
        "--out_n_neurons=6",
        "--prepare_options={split_ratio: [60, 40]}",
    )


def test_cnceleb_is_prepared_and_trained_on(trained_upstream, cnceleb):
    log = (trained_upstream / "train_log.txt").read_text()
    for name in ("classification", "contrast_weight", "attention"):
        assert f"train {name}: " in log or f"{name}: " in log
    assert (trained_upstream / "save" / "embedding_model.ckpt").is_file()
    found = {}
    for split in ("train", "dev"):
        with open(trained_upstream / "save" / f"{split}.csv") as file:
            found[split] = list(csv.DictReader(file))
    everything = found["train"] + found["dev"]
    assert len({row["ID"] for row in everything}) == len(everything)
    first = (cnceleb / "CN-Celeb_flac/dev/dev.lst").read_text().split()
    second = os.listdir(cnceleb / "CN-Celeb2_flac/data")
    assert {row["spk_id"] for row in found["train"]} == {*first, *second}
    # Joined where short, and nothing lost: the files' own seconds
    assert any("joined" in row["wav"] for row in everything)
    load_info = audio_io.info
    seconds = sum(
        load_info(str(path)).frames / 16000
        for folder in ("CN-Celeb_flac", "CN-Celeb2_flac")
        for path in (cnceleb / folder / "data").rglob("*.flac")
        if path.parent.name in {*first, *second}
    )
    total = sum(float(row["duration"]) for row in everything)
    assert total == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize("enrolment", ["avg", "concat"])
def test_cnceleb_is_verified_by_both_conventions(
    tree, trained_upstream, cnceleb, enrolment
):
    # One folder for both, whose files must not be mistaken for the other's
    output = trained_upstream / "verified"
    run(
        tree,
        tree / CNCELEB / "speaker_verification_cosine.py",
        tree / CNCELEB / "hparams" / "verification_ecapa_scl.yaml",
        TINY,
        f"--data_folder={cnceleb}",
        f"--output_folder={output}",
        f"--pretrain_path={trained_upstream / 'save'}",
        f"--enrolment={enrolment}",
        "--dataloader_options={num_workers: 0}",
    )
    trials = (cnceleb / "CN-Celeb_flac/eval/lists/trials.lst").read_text()
    scored = [x.split() for x in (output / "scores.txt").open()]
    assert [" ".join(x[:3]) for x in scored] == trials.splitlines()
    with open(output / "save" / f"enrol_{enrolment}.csv") as file:
        enrolled = [row["spk_id"] for row in csv.DictReader(file)]
    assert (len(enrolled) > len(set(enrolled))) == (enrolment == "avg")
    # Another encoder is not mistaken for the first.
    assert not list((output / "save").glob("*.ckpt"))
    # What the log says is what SpeechBrain's metrics say of the scores.
    log = (output / "log.txt").read_text()
    logged = [
        float(re.findall(pattern, log)[-1])
        for pattern in (r"EER\(%\)=([\d.]+)", r"minDCF=([\d.]+)")
    ]
    same, other = (
        torch.tensor([float(x[3]) for x in scored if x[2] == label])
        for label in "10"
    )
    assert logged[0] / 100 == pytest.approx(EER(same, other)[0], abs=1e-4)
    assert logged[1] / 100 == pytest.approx(minDCF(same, other)[0], abs=1e-4)


def test_an_unknown_convention_is_refused(tree, tmp_path):
    module = load(tree / "recipes" / "CNCeleb" / "cnceleb_prepare.py")
    with pytest.raises(ValueError, match="enrol_mean.*enrol_avg"):
        module.prepare_cnceleb(tmp_path, tmp_path, splits=["enrol_mean"])


def test_error_rates_are_speechbrains(tree, monkeypatch):
    monkeypatch.syspath_prepend(str(tree / CNCELEB))
    # Another test may have met the package's module of that name.
    monkeypatch.delitem(sys.modules, "cnceleb_prepare", raising=False)
    script = load(tree / CNCELEB / "speaker_verification_cosine.py")
    torch.manual_seed(0)
    for decimals in (1, 2, 6):  # with ties and without
        labels = torch.arange(400) % 5 == 0
        scores = (torch.randn(400) + 1.5 * labels).round(decimals=decimals)
        eer, cost = script.error_rates(scores, labels.long(), p_target=0.01)
        same, other = scores[labels], scores[~labels]
        assert eer == pytest.approx(EER(same, other)[0], abs=1e-6)
        assert cost * 0.01 == pytest.approx(minDCF(same, other)[0], abs=1e-6)
