"""A list's names: whatever their spelling, its speakers are not trained on."""

import os
import unicodedata

import pytest
from commands import write_noise

from recipes.VoxCeleb.voxceleb_prepare import prepare_voxceleb
from speechbrain_scl.data.manifest import read_manifest
from speechbrain_scl.data.names import locate
from speechbrain_scl.data.tables import as_list
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.verification import speaker_function


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight speakers, one of whom has a decomposed letter in the name."""
    root = tmp_path_factory.mktemp("corpus")
    for speaker in ["José", "bob", *"abcdef"]:
        speaker = unicodedata.normalize("NFD", speaker)
        for session in ("V0", "V1"):
            write_noise(root / "wav" / speaker / session / "00001.wav")
    os.symlink(root, root.parent / f"{root.name}-link")
    return root


def spellings(name, root):
    """A name as people and programs write it."""
    forms = "{0} wav/{0} ./{0} ./wav/{0} ././{0} wav//{0} a/../{0} "
    forms += "wav/../wav/{0} {1}/wav/{0} {1}/./wav/{0} {1}-link/wav/{0}"
    for form in forms.split():
        yield form.format(name, root)
    for form in ("{0}", "wav/{0}", "./{0}"):
        yield form.format(name).replace("/", "\\")
    yield from (name.upper(), name.lower(), name.removesuffix(".wav"))
    yield from (name.replace(".wav", ending) for ending in (".flac", ".m4a"))
    yield from (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))


def trial_list(path, names):
    first, *others, last = names
    lines = [f"1 {first} {name}\n" for name in others]
    path.write_text("".join(lines) + f"0 {first} {last}\n")
    return str(path)


def test_no_speaker_of_a_list_is_trained_on(root, tmp_path):
    """However the list spells them."""
    path_of = {
        spelt: root / "wav" / unicodedata.normalize("NFD", f"{name}/00001.wav")
        for name in ("José/V0", "José/V1", "bob/V0")
        for spelt in spellings(f"{name}/00001.wav", root)
    }
    assert len(path_of) > 50
    trials = trial_list(tmp_path / "trials.txt", path_of)
    counts = prepare_voxceleb(str(root), str(tmp_path), trials, 2)
    assert counts["trial_speakers_kept_out"] == 2
    used = {
        unicodedata.normalize("NFC", u.spk_id)
        for split in ("train", "valid")
        for u in read_manifest(tmp_path / f"{split}.csv")
    }
    assert used == set("abcdef")
    # The verification finds the same files, and speakers.
    found = locate(path_of, [str(root)], trials)
    params = {"speaker_pattern": "([^/]+)/", "data_folder": [str(root)]}
    speaker_of = speaker_function(params)
    for name, path in path_of.items():
        assert os.path.samefile(found[name], path)
        speaker = unicodedata.normalize("NFC", path.parts[-3])
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


def test_comma_separated_data_folders(tmp_path):
    names = ["0.wav", "1.wav"]
    paths = [write_noise(tmp_path / x / "wav" / x) for x in names]
    folders = as_list(f"{tmp_path / '0.wav'}, {tmp_path / '1.wav'}", "a")
    assert locate(names, folders, "trials.txt") == dict(zip(names, paths))


def test_names_that_differ_in_case_alone(tmp_path):
    for name in ("A/1.wav", "a/1.wav", "b/X.wav", "b/x.wav"):
        path = tmp_path / "wav" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if len(list((tmp_path / "wav").iterdir())) == 2:
        pytest.skip("this file system knows one case")
    found = locate(["A/1", "a/1.flac"], [str(tmp_path)], "list")
    assert found["A/1"].endswith("A/1.wav")
    assert found["a/1.flac"].endswith("a/1.wav")
    with pytest.raises(UserError, match="could be b/X or b/x"):
        locate(["B/X.wav"], [str(tmp_path)], "list")
