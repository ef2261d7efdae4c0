"""The exported recipes on the mini corpora."""

import re
from runpy import run_path

import pytest
import soundfile
import torch
from upstream_tree import CNCELEB, TINY, VOXCELEB, needs_recipes, run

from speechbrain.dataio.dataio import load_data_csv

pytestmark = needs_recipes

ONE = "--number_of_epochs=1"


@pytest.fixture(scope="module")
def prepare(tree):
    """The function that prepares CN-Celeb."""
    script = tree / "recipes/CNCeleb/cnceleb_prepare.py"
    return run_path(str(script))["prepare_cnceleb"]


@pytest.fixture(scope="module")
def prepared(prepare, cnceleb, tmp_path_factory):
    """Once for training and verification."""
    folder = tmp_path_factory.mktemp("upstream") / "prepared"
    prepare(cnceleb, folder, split_ratio=(60, 40), min_duration=0.5)
    return folder


def test_nothing_of_cnceleb_is_lost(prepared, cnceleb):
    train = load_data_csv(prepared / "train.csv")
    dev = load_data_csv(prepared / "dev.csv")
    assert dev and not set(train) & set(dev)
    first = (cnceleb / "CN-Celeb_flac/dev/dev.lst").read_text().split()
    second = [path.name for path in (cnceleb / "CN-Celeb2_flac/data").iterdir()]
    assert {row["spk_id"] for row in train.values()} == {*first, *second}
    # Joined where short; the seconds are those of the files.
    found = [*train.values(), *dev.values()]
    assert any("joined" in row["wav"] for row in found)
    for row in found:
        assert row["duration"] == soundfile.info(row["wav"]).duration >= 0.5
    seconds = sum(
        soundfile.info(path).duration
        for path in cnceleb.glob("*/data/*/*.flac")
        if path.parent.name in {*first, *second}
    )
    assert sum(row["duration"] for row in found) == pytest.approx(seconds)


def test_other_options_prepare_anew(prepare, cnceleb, tmp_path):
    def files(**options):
        prepare(cnceleb, tmp_path, **{"split_ratio": (60, 40), **options})
        return {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}

    before = files(min_duration=0.5)
    assert files(min_duration=0.5) == before
    after = files(min_duration=4.0)
    assert all(after[path] > before[path] for path in after if path.suffix)
    for row in load_data_csv(tmp_path / "train.csv").values():
        assert row["duration"] >= 4.0
    with pytest.raises(ValueError, match="dev.csv: .*split_ratio"):
        files(split_ratio=(100, 0))
    with pytest.raises(ValueError, match="train.csv: .*min_duration"):
        files(min_duration=1e6)


def test_a_tested_speaker_is_not_trained_on(prepare, cnceleb, tmp_path):
    theirs, ours = (x / "CN-Celeb_flac" for x in (cnceleb, tmp_path))
    (ours / "dev").mkdir(parents=True)
    for name in ("eval", "data"):
        (ours / name).symlink_to(theirs / name)
    tested = (theirs / "eval/lists/trials.lst").read_text().split("-")[0]
    (ours / "dev/dev.lst").write_text(tested)
    with pytest.raises(ValueError, match=f"{tested}.* trained on and tested"):
        prepare(tmp_path, tmp_path / "prepared")


def test_a_models_embeddings_are_averaged_at_unit_length(tree):
    script = tree / VOXCELEB / "speaker_verification_cosine.py"
    found = run_path(str(script))["average_enrolment"](
        {
            "ann/1": torch.tensor([[2.0, 0.0]]),
            "ann/2": torch.tensor([[0.0, 0.1]]),
            "bob": torch.tensor([[0.0, 3.0]]),
        }
    )
    assert found["ann"].tolist() == [[0.5, 0.5]]
    assert found["bob"].tolist() == [[0.0, 1.0]]


def training(recipe, corpus, output, *options):
    """The command of a training on six speakers."""
    return [
        recipe / "train_speaker_embeddings.py",
        recipe / "hparams" / "train_ecapa_tdnn_supcon_margin.yaml",
        *(TINY, f"--data_folder={corpus}", f"--output_folder={output}"),
        *("--sentence_len=0.5", "--num_workers=0", "--out_n_neurons=6"),
        *("--speakers_per_batch=3", *options),
    ]


@pytest.fixture(scope="module")
def checkpoint(tree, run_tree, cnceleb, prepared, sounds):
    """Trained through the links."""
    output = prepared.parent / "run"
    options = *sounds, f"--prepared_folder={prepared}", "--precision=bf16", ONE
    run_tree(*training(tree / CNCELEB, cnceleb, output, *options))
    (checkpoint,) = (output / "save").glob("CKPT+*")
    return checkpoint


@pytest.mark.parametrize("enrolment", ["avg", "concat"])
def test_cnceleb_is_verified_by_both_conventions(
    tree, run_tree, checkpoint, prepared, cnceleb, tmp_path, enrolment
):
    said = run_tree(
        tree / CNCELEB / "speaker_verification_cosine.py",
        tree / CNCELEB / "hparams/verification_ecapa.yaml",
        TINY,
        f"--data_folder={cnceleb}",
        f"--prepared_folder={prepared}",
        f"--output_folder={tmp_path}",
        f"--pretrain_path={checkpoint}",
        f"--enrolment={enrolment}",
    )
    assert re.search(r"EER\(%\)=[\d.]+", said) and "minDCF=" in said
    scored = [x.split() for x in (tmp_path / "scores.txt").open()]
    lists = cnceleb / "CN-Celeb_flac/eval/lists"
    trials = [x.split() for x in (lists / "trials.lst").open()]
    assert [[m, f"test/{t}.wav", y] for m, t, y, _ in scored] == trials
    enrolled = load_data_csv(prepared / f"enrol_{enrolment}.csv")
    models = {row["spk_id"] for row in enrolled.values()}
    assert models == {model for model, *_ in trials}
    assert (len(enrolled) > len(models)) == (enrolment == "avg")


@pytest.fixture
def command(tree, corpus, sounds, tmp_path):
    """Of VoxCeleb's training."""
    trials = f"--verification_file={corpus / 'trials-same-language.txt'}"
    return training(tree / VOXCELEB, corpus, tmp_path, *sounds, trials)


def epochs(output):
    """Those of the log; all losses are finite."""
    log = (output / "train_log.txt").read_text()
    losses = re.findall(r"loss: ([\d.e+-]+)", log)
    assert all(0 < float(loss) < 100 for loss in losses)
    return re.findall(r"(?m)^epoch: (\d+)", log)


def test_a_finished_training_goes_on(command, run_tree, tmp_path):
    run_tree(*command, ONE)
    assert epochs(tmp_path) == ["1"]
    save = tmp_path / "save"
    (save / "opt_voxceleb_prepare.pkl").unlink()  # it would prepare anew
    prepared = (save / "train.csv").stat().st_mtime_ns
    run_tree(*command, "--number_of_epochs=2", "--skip_prep=True")
    assert (save / "train.csv").stat().st_mtime_ns == prepared
    assert epochs(tmp_path) == ["1", "2"]

    def checkpoints():
        return {p: p.read_bytes() for p in save.glob("CKPT*/*")}

    before = checkpoints()
    run_tree(*command, "--debug")
    assert before and checkpoints() == before


# Batch normalisation cannot be synchronised on the CPU.
UNSYNCHRONISED = """
import os, runpy, sys, torch
torch.nn.SyncBatchNorm.convert_sync_batchnorm = lambda module: module
place, script = sys.argv[1:3]
del sys.argv[:2]
sys.path[0] = os.path.dirname(script)
brain = runpy.run_path(script, run_name="__main__")["speaker_brain"]
parameters = [p.detach() for p in brain.modules.parameters()]
torch.save(parameters, f"{place}/{os.environ['RANK']}.pt")
"""


def test_two_processes_train_one_model(tree, command, tmp_path):
    (tmp_path / "script.py").write_text(UNSYNCHRONISED)
    run(
        tree,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *(tmp_path / "script.py", tmp_path, *command, ONE),
        *("--device=cpu", "--distributed_backend=gloo"),
    )
    assert epochs(tmp_path) == ["1"]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first and all(map(torch.equal, first, second))
