"""A list's names: whatever their spelling, its speakers are not trained on."""

import os
import unicodedata

import numpy as np
import pytest
import soundfile
from voxceleb_prepare import prepare_voxceleb

from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.names import locate
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.verification import speaker_function

TESTED = ("José", "bob")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight speakers, one of whom has a decomposed letter in the name."""
    root = tmp_path_factory.mktemp("corpus")
    for speaker in [*TESTED, *"abcdef"]:
        speaker = unicodedata.normalize("NFD", speaker)
        for session in ("V0", "V1"):
            path = root / "wav" / speaker / session / "00001.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, np.full(16000, 0.1), 16000)
    os.symlink(root, root.parent / f"{root.name}-link")
    return root


SPELLINGS = [
    *["{0}", "wav/{0}", "./{0}", "./wav/{0}", "././{0}", "wav//{0}"],
    *["a/../{0}", "wav/../wav/{0}", "{root}/wav/{0}", "{root}/./wav/{0}"],
    "{root}-link/wav/{0}",
    lambda name: name.replace("/", "\\"),
    lambda name: f"wav/{name}".replace("/", "\\"),
    lambda name: f"./{name}".replace("/", "\\"),
    str.upper,
    str.lower,
    lambda name: name.replace(".wav", ".flac"),
    lambda name: name.replace(".wav", ".m4a"),
    lambda name: name.removesuffix(".wav"),
    lambda name: unicodedata.normalize("NFC", name),
    lambda name: unicodedata.normalize("NFD", name),
]


def trial_list(path, names):
    first, second, other = names
    path.write_text(f"1 {first} {second}\n0 {first} {other}\n")
    return str(path)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_speaker_of_a_list_is_trained_on(root, tmp_path, spelling):
    plain = [f"{TESTED[0]}/V{i}/00001.wav" for i in (0, 1)]
    plain.append(f"{TESTED[1]}/V0/00001.wav")
    if callable(spelling):
        names = list(map(spelling, plain))
    else:
        names = [spelling.format(name, root=root) for name in plain]
    trials = trial_list(tmp_path / "trials.txt", names)
    counts = prepare_voxceleb(str(root), str(tmp_path), trials, 2)
    assert counts["trial_speakers_kept_out"] == 2
    used = {
        unicodedata.normalize("NFC", u.spk_id)
        for split in ("train", "valid")
        for u in read_manifest(tmp_path / f"{split}.csv")
    }
    assert used == set("abcdef")
    # The verification finds the same files, and speakers.
    found = locate(names, [str(root)], trials)
    params = {"speaker_pattern": "([^/]+)/", "data_folder": [str(root)]}
    speaker_of = speaker_function(params)
    for name, known in zip(names, plain):
        path = root / "wav" / unicodedata.normalize("NFD", known)
        assert os.path.samefile(found[name], path)
        speaker = known.split("/")[0]
        assert speaker_of(name).casefold() == speaker.casefold()


@pytest.mark.parametrize(
    "names, said",
    [
        (["x/V0/1.wav", "x/V1/1.wav", "y/V0/1.wav"], "3 of 3 utterances"),
        (["bob/V0/00001.wav", "bob/V1/00001.wav", "y/V0/1"], "1 of 3 utter"),
        (["bob/V0/00001.wav", "bob/V9/00001.wav", "a/V0/1.wav"], "2 of 3 utt"),
        (["/elsewhere/bob/1.wav", "a/V0/00001.wav", "b/1"], "leads out"),
    ],
)
def test_a_list_that_is_not_all_there_is_refused(root, tmp_path, names, said):
    """Unless the experiment says that it is another corpus's."""
    trials = trial_list(tmp_path / "trials.txt", names)
    with pytest.raises(UserError, match=f"{said}.*trials_of_other_corpus"):
        prepare_voxceleb(str(root), str(tmp_path), trials, 2)
    other = {"trials_of_other_corpus": True}
    counts = prepare_voxceleb(str(root), str(tmp_path), trials, 2, **other)
    # Speakers of the same name are kept out all the same.
    known = {name.split("/")[0] for name in names} & {"bob", *"abcdef"}
    assert counts["trial_speakers_kept_out"] == len(known)


def test_names_that_differ_in_case_alone(tmp_path):
    for name in ("A/1.wav", "a/1.wav"):
        path = tmp_path / "wav" / name
        path.parent.mkdir(parents=True)
        path.touch()
    if len(list((tmp_path / "wav").iterdir())) == 1:
        pytest.skip("this file system knows one case")
    found = locate(["A/1", "a/1.flac"], [str(tmp_path)], "list")
    assert found["A/1"].endswith("A/1.wav")
    assert found["a/1.flac"].endswith("a/1.wav")
    (tmp_path / "wav" / "b").mkdir()
    for name in ("X.wav", "x.wav"):
        (tmp_path / "wav" / "b" / name).touch()
    with pytest.raises(UserError, match="could be b/X or b/x"):
        locate(["B/X.wav"], [str(tmp_path)], "list")
