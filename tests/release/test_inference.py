"""The inference folder, loaded by SpeechBrain's own classes."""

from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference import EncoderClassifier
from speechbrain_scl.release.inference import save_inference_folder


def test_speechbrain_loads_the_folder_with_the_same_scores(untrained, tmp_path):
    text = Path(untrained).with_name("train.yaml").read_text()
    for size in ("lin_neurons", "input_size"):
        text = text.replace(f"{size}: 12", f"{size}: !ref <emb_dim>")
    text = f"emb_dim: 12\nnote: not for inference\n{text}"
    yaml_file = tmp_path / "train.yaml"
    yaml_file.write_text(text)
    overrides = "emb_dim: 10\nclassifier: {out_neurons: 4}"
    hparams = load_hyperpyyaml(text, overrides)
    labels = CategoricalEncoder()
    labels.update_from_iterable(["ann", "bob", "cleo", "dan"])
    labels.expect_len(4)
    folder = tmp_path / "results" / "inference"
    for _ in range(2):  # the second time it replaces the first
        save_inference_folder(
            str(folder), str(yaml_file), overrides, hparams, labels
        )
    assert sorted(p.name for p in folder.parent.iterdir()) == ["inference"]

    wavs = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    hparams["embedding_model"].eval()
    with torch.no_grad():
        lens = torch.ones(2)
        feats = hparams["compute_features"](wavs)
        feats = hparams["mean_var_norm"](feats, lens)
        wanted = hparams["embedding_model"](feats, lens).squeeze(1)
    savedir = str(tmp_path / "cache")
    encoder = EncoderClassifier.from_hparams(str(folder), savedir=savedir)
    found = encoder.encode_batch(wavs).squeeze(1)
    torch.testing.assert_close(found, wanted)
    assert found.shape == (2, 10)
    assert encoder.classify_batch(wavs)[3][0] in {"ann", "bob", "cleo", "dan"}

    assert "not for inference" not in (folder / "hyperparams.yaml").read_text()
