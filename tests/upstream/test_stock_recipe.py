"""SpeechBrain's own recipe with exactly the README's lines."""

import re

import pytest
from commands import readme_blocks, without
from upstream_tree import VOXCELEB, needs_recipes, stock_recipes

pytestmark = needs_recipes

IMPORTS, LOADER = readme_blocks("python")
(ADDED,) = readme_blocks("yaml")
ECAPA = "--embedding_model={channels: [8, 8, 8, 8, 24], attention_channels: 8}"
XVECTORS = "--embedding_model={tdnn_channels: [8, 8, 8, 8, 24]}"


@pytest.fixture
def stock(tmp_path):
    """SpeechBrain's recipe with the README's Python."""
    stock_recipes(tmp_path)
    recipe = tmp_path / VOXCELEB
    script = recipe / "train_speaker_embeddings.py"
    text = script.read_text()
    theirs = re.search(r"(?s)class SpeakerBrain.*?(?=def dataio_prep)", text)
    text = text.replace(theirs[0], IMPORTS + "\n\n")
    line = '        train_loader_kwargs=hparams["dataloader_options"],\n'
    assert text.count(line) == 1
    loader = LOADER.replace(", 32, 2\n", ", 3, 2\n")  # of six speakers
    script.write_text(text.replace(line, loader))
    return recipe


@pytest.mark.parametrize(
    "name, sizes", [("ecapa_tdnn", ECAPA), ("x_vectors", XVECTORS)]
)
def test_it_trains(stock, corpus, sounds, tmp_path, run_warm, name, sizes):
    path = stock / "hparams" / f"train_{name}.yaml"
    added = ADDED
    if name == "x_vectors":
        added = without("attention", added, "    ")
    path.write_text(without("error_stats", path.read_text()) + added)
    output, trials = tmp_path / "run", corpus / "trials-same-language.txt"
    data = [f"--data_folder={corpus}", f"--verification_file={trials}"]
    for epochs in (1, 2):
        run_warm(
            stock / "train_speaker_embeddings.py",
            *(path, *data, sizes, f"--output_folder={output}"),
            *sounds,
            *("--sentence_len=0.5", "--num_workers=0", "--out_n_neurons=6"),
            f"--number_of_epochs={epochs}",
            folder=stock,
        )
        log = (output / "train_log.txt").read_text().splitlines()
        assert len(log) == epochs  # the second run resumed
        assert "valid EER" in log[-1] and "weight_contrastive" in log[-1]
    if name == "x_vectors":  # whose stock verification downloads its PLDA
        return
    checkpoint = max((output / "save").glob("CKPT+*"))  # best and last are kept
    run_warm(
        stock / "speaker_verification_cosine.py",
        stock / "hparams" / "verification_ecapa.yaml",
        *(*data, sizes, "--cohort_size=2", f"--pretrain_path={checkpoint}"),
        f"--output_folder={tmp_path / 'verified'}",
        folder=stock,
    )
    assert "EER(%)=" in (tmp_path / "verified" / "log.txt").read_text()
