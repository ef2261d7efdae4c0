"""The two commands of the VoxCeleb recipe, end to end."""

import json
import re
import shutil

import pytest
import soundfile
import torch
from commands import LISTS, SMALL, verification, within

from speechbrain.inference import SpeakerRecognition
from speechbrain_scl.evaluation.metrics import eer


def test_what_a_training_leaves(trained):
    log = (trained / "train_log.txt").read_text()
    for name in ("classification", "contrastive", "attention", "valid EER"):
        assert re.search(rf"{name}: [\d.e+-]+", log), name


def test_what_a_verification_leaves(trained, corpus, run_script, tmp_path):
    done = run_script(
        "speaker_verification_cosine.py",
        *verification(trained, corpus, tmp_path, "--bootstrap=20"),
        *("--score_norm=as-norm", "--top_n=3"),
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["score_norm"] == "as-norm"
    assert (tmp_path / "det.png").stat().st_size > 10_000
    for name in LISTS:
        found = metrics["trials"][name]
        assert found["n_speakers"] == 4
        # Four speakers make no interval, and it is said.
        assert found["eer_ci"] is None
        assert f"{name}: no interval: 4 test speakers" in done.stdout
        lines = (tmp_path / f"scores-{name}.txt").read_text().splitlines()
        assert len(lines) == found["n_trials"]
        labels = [line.split()[0] == "1" for line in lines]
        scores = [float(line.split()[3]) for line in lines]
        assert eer(scores, labels)[0] == pytest.approx(found["eer"], abs=1e-3)
        assert f"{100 * found['eer']:5.2f}" in done.stdout


def test_scores_are_those_of_speechbrain(trained, corpus, run_warm, tmp_path):
    trials = tmp_path / "trials.txt"
    lines = (corpus / "trials-same-language.txt").read_text().splitlines()
    # Both kinds, the other column layout, a tab, a blank line and CRLF
    chosen = [lines[0].split(), lines[-1].split()]
    trials.write_text("\r\n\r\n".join(f"{b}\t{c} {a}" for a, b, c in chosen))
    run_warm(
        "speaker_verification_cosine.py",
        *verification(trained, corpus, tmp_path / "out"),
        f"--verification_file={trials}",
    )
    source, saved = str(trained / "inference"), str(tmp_path / "model")
    model = SpeakerRecognition.from_hparams(source, savedir=saved)
    for line in (tmp_path / "out" / "scores.txt").read_text().splitlines():
        _, enrol, test, score = line.split()
        wavs = [
            torch.from_numpy(soundfile.read(corpus / "wav" / name)[0])[None]
            for name in (enrol, test)
        ]
        wanted, _ = model.verify_batch(wavs[0].float(), wavs[1].float())
        assert float(score) == pytest.approx(wanted.item(), abs=1e-5)


def test_a_finished_run_goes_on(trained, corpus, run_warm, tmp_path):
    """More epochs start at the third; another margin is refused."""
    output = shutil.copytree(trained, tmp_path / "run")

    command = ["train_speaker_embeddings.py", *SMALL, *within(corpus, output)]
    other = ["--aam_margin=0.5", "--objective={contrastive: null}"]
    before = (output / "inference" / "training.json").read_text()
    said = run_warm(*command, *other, status=1).stderr.splitlines()[-1]
    assert "aam_margin: 0.2 -> 0.5" in said
    assert "objective.contrastive.temperature: 0.07 -> none" in said
    assert (output / "inference" / "training.json").read_text() == before
    run_warm(*command, "--number_of_epochs=3")
    log = (output / "train_log.txt").read_text()
    assert re.findall(r"epoch: (\d+)", log) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["hparams/absent.yaml"], "hparams/absent.yaml: there is no such file"),
        (["hparams/ecapa_scl.yaml"], "data/VoxCeleb1: there is no such folder"),
        (
            [*SMALL, "--speakers_per_batch=9"],
            "4 fit where 2 are held out: python train_speaker_embeddings.py",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, message, corpus, run_warm, tmp_path):
    options = within(corpus, tmp_path)
    if arguments[0] != SMALL[0]:
        del options[0]  # the file's own data folder
    script = "train_speaker_embeddings.py"
    done = run_warm(script, *arguments, *options, status=1)
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_verification_alone_uses_its_default_yaml(run_warm):
    done = run_warm("speaker_verification_cosine.py", status=1)
    assert "data/VoxCeleb1: there is no such folder" in done.stderr
