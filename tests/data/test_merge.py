"""Manifests of several corpora as one."""

import dataclasses

import pytest

from speechbrain_scl.data.manifest import (
    Utterance,
    read_manifest,
    write_manifest,
)
from speechbrain_scl.data.merge import merge_manifests
from speechbrain_scl.errors import UserError

ROWS = [
    Utterance(f"u{i}", 1.0, f"{i}.wav", 0, 16000, f"s{i}") for i in range(4)
]


@dataclasses.dataclass(frozen=True)
class Genre(Utterance):
    genre: str


def test_rows_of_all_and_the_common_columns(tmp_path):
    first, second = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    write_manifest(first, ROWS[:2])
    write_manifest(
        second, [Genre(*dataclasses.astuple(row), "vlog") for row in ROWS[2:]]
    )
    joint = str(tmp_path / "joint.csv")
    counts = merge_manifests(joint, [first, second])
    assert counts == {"speakers": 4, "utterances": 4}
    assert read_manifest(joint) == ROWS


@pytest.mark.parametrize("field", ["ID", "spk_id"])
def test_one_name_for_two_is_refused(tmp_path, field):
    first, second = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    write_manifest(first, ROWS[:1])
    clash = dataclasses.replace(ROWS[1], **{field: getattr(ROWS[0], field)})
    write_manifest(second, [clash])
    with pytest.raises(UserError, match="is in .*a.csv and in .*b.csv"):
        merge_manifests(str(tmp_path / "joint.csv"), [first, second])
