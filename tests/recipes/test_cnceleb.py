"""CN-Celeb's recipe on a tree in its layout."""

import json
import shutil

import pytest
import soundfile
from cnceleb_prepare import prepare_cnceleb
from commands import ROOT, read_rows

from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.errors import UserError

RECIPE = ROOT / "recipes" / "CNCeleb" / "SpeakerRec"
TESTED = "1 training speakers are in .*"


def prepare(cnceleb, save, **options):
    options = {"strict": False, "valid_speakers": 2, **options}
    folders = cnceleb / "CN-Celeb_flac", cnceleb / "CN-Celeb2_flac", save
    return prepare_cnceleb(*map(str, folders), **options)


def test_both_corpora_are_trained_on_and_eval_is_not(cnceleb, tmp_path):
    counts = prepare(cnceleb, tmp_path, joined_duration=0)
    assert counts["train"]["speakers"] == 4
    assert counts["valid"]["speakers"] == 2
    rows = read_rows(tmp_path / "train.csv") + read_rows(tmp_path / "valid.csv")
    speakers = {row["spk_id"] for row in rows}
    assert {s[:3] for s in speakers} == {"id0", "id1"}
    assert not speakers & {f"id{i:05d}" for i in range(800, 900)}
    assert {row["genre"] for row in rows} <= {"interview", "singing", "vlog"}
    tests = read_rows(tmp_path / "eval.csv")
    listed = cnceleb / "CN-Celeb_flac/eval/lists/test.lst"
    assert [t["path"] for t in tests] == listed.read_text().split()
    assert all(t["genre"] in t["path"] for t in tests)

    # Files of a system and a byte order mark do no harm.
    copy = shutil.copytree(cnceleb, tmp_path / "copy")
    listed = copy / "CN-Celeb_flac" / "dev" / "dev.lst"
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes())
    (copy / "CN-Celeb2_flac/data/.Trash-0").mkdir()
    for name in ("README", ".DS_Store", ".Trash-0/a.flac"):
        (copy / "CN-Celeb2_flac/data" / name).write_text("a")
    assert prepare(copy, tmp_path / "b", joined_duration=0) == counts


def test_short_utterances_of_one_genre_are_joined(cnceleb, tmp_path):
    alone = prepare(cnceleb, tmp_path / "a", joined_duration=0)
    joined = prepare(cnceleb, tmp_path / "b", joined_duration=4.0)
    assert joined["short_utterances_joined"] > 0
    # The same audio in fewer rows
    assert joined["train"]["utterances"] < alone["train"]["utterances"]
    hours = alone["train"]["hours"]
    assert joined["train"]["hours"] == pytest.approx(hours, abs=0.002)
    for row in read_manifest(str(tmp_path / "b" / "train.csv")):
        assert soundfile.info(row.wav).frames == row.stop
        if "joined" in row.wav:
            assert row.ID.count("--") == 2
    assert prepare(cnceleb, tmp_path / "b", joined_duration=4.0) == joined


def test_the_distributed_numbers_are_checked(cnceleb, tmp_path, caplog):
    with pytest.raises(UserError, match="3 CN-Celeb1 .* instead of 797; 3 CN"):
        prepare(cnceleb, tmp_path, strict=True)
    prepare(cnceleb, tmp_path)
    assert "trials instead of 3,484,292" in caplog.text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("dev/dev.lst", None, "dev.lst: not there"),
        ("dev/dev.lst", "id77777\n", "id77777: there is no such folder"),
        ("dev/dev.lst", "id00000\nid00800\n", f"{TESTED} first is id00800"),
        ("eval/lists/trials.lst", "a b\n", "trials.lst, line 1: 2 fields"),
        (
            "eval/lists/trials.lst",
            "id00800-enroll test\\ID00002-vlog-01-001.wav 1\n"
            "id00800-enroll test\\id00801-vlog-01-001.wav 0\n",
            f"{TESTED} first is id00002",
        ),
        (
            "eval/lists/enroll.map",
            "id00801-enroll id00801/vlog-01-001.wav\n",
            "models are not in .*enroll.map; the first is id00800-enroll",
        ),
    ],
)
def test_a_wrong_tree_is_told(cnceleb, tmp_path, name, content, message):
    shutil.copytree(cnceleb, tmp_path / "copy")
    path = tmp_path / "copy" / "CN-Celeb_flac" / name
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "copy", tmp_path / "save")


def test_both_conventions_of_enrolment(cnceleb, untrained, run_warm, tmp_path):
    """Avg, and Concat by joined audio and by the recordings of the corpus,
    which are the same."""
    prepare(cnceleb, tmp_path)
    lists = cnceleb / "CN-Celeb_flac/eval/lists"
    figures = []
    for name, kind in (
        ("enroll.map", "mean"),
        ("enroll.map", "concatenate"),
        ("enroll.lst", "mean"),
    ):
        folder = tmp_path / f"{name}-{kind}"
        run_warm(
            "speaker_verification_cosine.py",
            f"--corpus={cnceleb / 'CN-Celeb_flac'}",
            f"--enrolment_map={lists / name}",
            f"--enrolment={kind}",
            f"--metadata={tmp_path / 'eval.csv'}",
            f"--pretrain_path={untrained}",
            f"--output_folder={folder}",
            "--bootstrap=2",
            folder=RECIPE,
        )
        found = json.loads((folder / "metrics.json").read_text())
        assert found["enrolment"] == kind
        figures.append(found["trials"]["trials"])
        parts = figures[-1]["conditions"]
        genres = ("interview", "singing", "vlog")
        assert set(parts) <= {f"test_genre: {g}" for g in genres}
        n_trials = sum(part["n_trials"] for part in parts.values())
        assert n_trials == figures[-1]["n_trials"]
    assert figures[1]["eer"] == pytest.approx(figures[2]["eer"])
