"""Models from others: what does not fit, is damaged or calls more is refused."""

import random
import shutil

import pytest
import torch

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.verifier import SpeakerVerifier


@pytest.fixture
def folder(untrained, tmp_path):
    return shutil.copytree(untrained, tmp_path / "model")


@pytest.mark.parametrize(
    "name, change",
    [
        ("classifier", lambda s: {f"module.{k}": v for k, v in s.items()}),
        ("embedding_model", lambda s: dict(list(s.items())[1:])),
        ("classifier", lambda s: {**s, "more": torch.zeros(1)}),
        (
            "embedding_model",
            lambda s: {k: v.flatten()[:1] for k, v in s.items()},
        ),
        ("classifier", lambda s: [1, 2]),
    ],
)
def test_parameters_that_do_not_fit(folder, tmp_path, change, name):
    path = folder / f"{name}.ckpt"
    torch.save(change(torch.load(path, weights_only=True)), path)
    with pytest.raises(UserError, match=f"{folder}: cannot be loaded"):
        load_encoder(str(folder), str(tmp_path / "loaded"))


@pytest.mark.parametrize("name", ["embedding_model.ckpt", "hyperparams.yaml"])
def test_no_flipped_bit_is_another_embedding(folder, tmp_path, name):
    path = folder / name
    content = path.read_bytes()
    wavs = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    wanted = load_encoder(str(folder), str(tmp_path))(wavs)
    draw, refused = random.Random(1986), 0
    for _ in range(8):
        at, bit = draw.randrange(len(content)), draw.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        path.write_bytes(changed)
        try:
            found = load_encoder(str(folder), str(tmp_path))(wavs)
        except UserError:
            refused += 1
        else:
            assert torch.equal(found, wanted), (at, bit)
    assert refused > 2


@pytest.mark.parametrize(
    "line",
    [
        "x: !apply:os.mkdir [{0}]",
        "x: !new:os.mkdir [{0}]",
        "x: !new:torch.os.mkdir [{0}]",
        "x: !new:speechbrain.utils.data_utils.os.mkdir [{0}]",
        "x: !apply:torch.hub.os.mkdir [{0}]",
        "x: !applyref:os.mkdir {{path: {0}}}",
        "x: !!python/object/apply:os.mkdir [{0}]",
        "x: !<!apply:os.mkdir> [{0}]",
        "%TAG !e! !apply:\n---\nx: !e!os.mkdir [{0}]",
        "x: !include:{0}.yaml",
        "x: !name:os.mkdir\n    path: {0}",
        "x: !new:encoders_of_others.Encoder",
        "x: !new:torch.utils.no.such.thing",
        "x: !apply:speechbrain.utils.seed_everything [1]",
    ],
)
def test_a_model_calls_nothing_but_its_parts(folder, tmp_path, line):
    path = folder / "hyperparams.yaml"
    line = line.format(tmp_path / "executed")
    text = path.read_text()
    text = f"{line}\n{text}" if line[0] == "%" else f"{text}\n{line}\n"
    path.write_text(text)
    with pytest.raises(
        UserError, match="cannot be loaded|its hyperparams.yaml names "
    ):
        load_encoder(str(folder), str(tmp_path / "loaded"))
    assert not (tmp_path / "executed").exists()


def test_who_trusts_a_model_loads_it(folder, tmp_path):
    made = tmp_path / "executed"
    with open(folder / "hyperparams.yaml", "a", encoding="utf-8") as file:
        file.write(f"\nx: !apply:os.mkdir [{made}]\n")
    with pytest.raises(UserError, match="trust"):
        SpeakerVerifier.load(folder)
    SpeakerVerifier.load(folder, trust=True)
    assert made.exists()
