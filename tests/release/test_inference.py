"""The inference folder, loaded by SpeechBrain's own classes."""

import torch
from hyperpyyaml import load_hyperpyyaml

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference import EncoderClassifier
from speechbrain_scl.release.inference import save_inference_folder

TRAINING = """
n_mels: 20
emb_dim: 12
sample_rate: 16000
note: not for inference
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    attention_channels: 8
    se_channels: 8
    lin_neurons: !ref <emb_dim>
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <emb_dim>
    out_neurons: 4
"""


def test_speechbrain_loads_the_folder_with_the_same_scores(tmp_path):
    yaml_file = tmp_path / "train.yaml"
    yaml_file.write_text(TRAINING)
    overrides = "emb_dim: 10"
    hparams = load_hyperpyyaml(TRAINING, overrides)
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
        feats = hparams["mean_var_norm"](
            hparams["compute_features"](wavs), lens
        )
        wanted = hparams["embedding_model"](feats, lens).squeeze(1)
    savedir = str(tmp_path / "cache")
    encoder = EncoderClassifier.from_hparams(str(folder), savedir=savedir)
    found = encoder.encode_batch(wavs).squeeze(1)
    torch.testing.assert_close(found, wanted)
    assert encoder.classify_batch(wavs)[3][0] in {"ann", "bob", "cleo", "dan"}

    assert "not for inference" not in (folder / "hyperparams.yaml").read_text()
