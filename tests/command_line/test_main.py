"""The command line, on a trained encoder."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain.inference import SpeakerRecognition
from speechbrain_scl.command_line.main import main
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.store import folder_digest, load_embeddings


@pytest.fixture
def recordings(corpus):
    """Two of one speaker, one of another."""
    speakers = sorted(p for p in (corpus / "wav").iterdir())
    first, second = (sorted(s.rglob("*.wav")) for s in speakers[:2])
    return [str(path) for path in (*first[:2], second[0])]


def test_verify_scores_as_speechbrain(trained, recordings, capsys, tmp_path):
    model = str(trained / "inference")
    path = tmp_path / "calibration.json"
    key = folder_digest(model)
    Calibration(1000.0, 5000.0, 0.01, 9, key).save(path)
    main(["verify", model, *recordings[:2], "--calibration", str(path)])
    said = capsys.readouterr().out
    recognition = SpeakerRecognition.from_hparams(
        model, savedir=str(tmp_path / "model")
    )
    wavs = [
        torch.from_numpy(soundfile.read(p, dtype="float32")[0])[None]
        for p in recordings[:2]
    ]
    wanted, _ = recognition.verify_batch(*wavs)
    assert float(said.split()[1].rstrip(",")) == pytest.approx(
        wanted.item(), abs=1e-3
    )
    assert "same speaker" in said
    # The threshold is a cosine of -5.
    assert "out of reach: at p_target 0.5" in said and "-5.000" in said
    Calibration(1000.0, 5000.0, 0.01, 9, "another").save(path)
    with pytest.raises(SystemExit, match="another model's scores"):
        main(["verify", model, *recordings[:2], "--calibration", str(path)])
    Calibration(1000.0, 5000.0, 0.01, 9, key, "as-norm").save(path)
    with pytest.raises(SystemExit, match="as-norm scores, not cosines"):
        main(["verify", model, *recordings[:2], "--calibration", str(path)])


def test_embed_enrol_and_score(trained, recordings, capsys, tmp_path):
    model, voices = str(trained / "inference"), str(tmp_path / "voices.npz")
    output = str(tmp_path / "out.npz")
    main(["embed", model, *recordings, "--output", output])
    vectors = load_embeddings(output)
    assert list(vectors) == recordings
    main(["enrol", model, voices, "ann", *recordings[:2]])
    main(["enrol", model, voices, "bob", recordings[2]])
    assert "2 speaker(s)" in capsys.readouterr().out
    main(["score", model, voices, recordings[2]])
    lines = capsys.readouterr().out.strip().splitlines()
    # Best first: the recording bob was enrolled with
    assert [line.split()[1] for line in lines] == ["bob", "ann"]
    assert "cosine 1.000" in lines[0]
    mean = vectors[recordings[0]] + vectors[recordings[1]]
    wanted = mean @ vectors[recordings[2]] / np.linalg.norm(mean)
    assert f"cosine {wanted:.3f}" in lines[1]


def test_mistakes_are_one_line(trained, recordings, tmp_path):
    model = str(trained / "inference")

    def refused(*arguments):
        with pytest.raises(SystemExit) as error:
            main([*map(str, arguments)])
        return str(error.value)

    gone = tmp_path / "gone.wav"
    assert f"{gone}: there is no such rec" in refused(
        "verify", model, recordings[0], gone
    )
    assert "there is no such folder" in refused(
        "embed", tmp_path / "gone", recordings[0], "--output", "o.npz"
    )
    voices = tmp_path / "voices.npz"
    assert "no such file of embeddings" in refused(
        "score", model, voices, recordings[0]
    )
    np.savez(voices, ids=np.array(["ann"]), embeddings=np.ones((1, 192)))
    assert "with another model" in refused(
        "score", model, voices, recordings[0]
    )
    voices.write_bytes(b"broken")
    assert "no file of embeddings" in refused(
        "score", model, voices, recordings[0]
    )
