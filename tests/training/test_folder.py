"""A run's folder: one run at a time, and always with the same options."""

from types import SimpleNamespace

import pytest

from speechbrain.utils.run_opts import RunOptions
from speechbrain_scl.errors import UserError
from speechbrain_scl.training.folder import digest_of, keep_to, run_folder

TRAINING = """
seed: 1
output_folder: {folder}
save_folder: !ref <output_folder>/save
number_of_epochs: 4
num_workers: 0
lr: 0.001
objective: !new:builtins.dict
    contrastive: !new:builtins.dict
        margin: 0.2
    preference: [5, 1]
"""


@pytest.fixture
def start(tmp_path):
    """Starts a run with options, in which ``inside`` is done."""
    file = tmp_path / "train.yaml"

    def start(
        overrides="", text=TRAINING, inside=None, accumulation=1, output="out"
    ):
        output = tmp_path / output
        save = output / "save"
        file.write_text(text.format(folder=output))
        hparams = {"output_folder": str(output), "save_folder": str(save)}
        run_opts = RunOptions(grad_accumulation_factor=accumulation)
        with run_folder(hparams, run_opts, str(file), overrides):
            if inside is None:
                (save / "CKPT+1").mkdir(exist_ok=True)
            else:
                inside()
        return save

    return start


@pytest.mark.parametrize(
    "change, said",
    [
        ({"overrides": "lr: 0.01"}, "lr: 0.001 -> 0.01"),
        ({"overrides": "seed: 2"}, "seed: 1.0 -> 2.0"),
        (
            {"overrides": "objective: {contrastive: {margin: 0.3}}"},
            "margin: 0.2 -> 0.3",
        ),
        (
            {"overrides": "objective: {contrastive: null}"},
            "contrastive.margin: 0.2 -> none",
        ),
        (
            {"overrides": "objective: {preference: [5]}"},
            "preference.1: 1.0 -> none",
        ),
        ({"overrides": "number_of_epochs: 3"}, "of_epochs: 4.0 -> 3.0"),
        ({"text": TRAINING + "weight: 1\n"}, "weight: none -> 1.0"),
        ({"accumulation": 2}, "grad_accumulation_factor: 1.0 -> 2.0"),
    ],
)
def test_other_options_are_refused_with_what_differs(start, change, said):
    start(**change, inside=lambda: None)  # nothing has been trained yet
    start()
    with pytest.raises(UserError, match=said) as refused:
        start(**change)
    assert "choose another output_folder" in str(refused.value)
    # What does not change the result may differ.
    start("lr: 1e-3\nnum_workers: 4\nobjective: {preference: [5.0, 1.0]}")
    start("number_of_epochs: 5")
    with pytest.raises(UserError, match="5.0 -> 4.0"):
        start()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"options": 3}', b"\xff"]
)
def test_a_broken_record_is_told(start, content):
    save = start()
    (save / "options.json").write_bytes(content)
    with pytest.raises(UserError, match="options.json: damaged"):
        start()


def test_other_data_are_refused(start):
    save = start()
    rows = [SimpleNamespace(ID="a", spk_id="x", start=0, stop=9)]
    keep_to(str(save), "data", {"training": digest_of(rows)})
    rows[0].stop = 8
    with pytest.raises(UserError, match="training: 1 utterances, .* -> 1 utt"):
        keep_to(str(save), "data", {"training": digest_of(rows)})


def test_two_runs_at_once(start):
    start()
    with pytest.raises(UserError, match="is running in this folder"):
        start(inside=start)


def test_a_folder_that_cannot_be_written_or_has_gone_is_told(start, tmp_path):
    output = tmp_path / "out"
    output.write_text("a file")
    with pytest.raises(UserError, match="out.*cannot be written"):
        start()
    output.unlink()

    def renamed():
        output.rename(tmp_path / "renamed")
        open(output / "log.txt", "a")

    with pytest.raises(UserError, match="log.txt: cannot be written"):
        start(inside=renamed)
    with pytest.raises(FileNotFoundError):  # not of the folder
        start(inside=lambda: open(tmp_path / "other" / "log.txt", "a"))


def test_a_node_that_does_not_share_the_folder_is_told(start, monkeypatch):
    module = "speechbrain_scl.training.folder"
    monkeypatch.setattr(f"{module}.if_main_process", lambda: False)
    with pytest.raises(UserError, match="nodes need one output_folder"):
        start(output="local")
