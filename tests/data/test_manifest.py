"""Manifests: what is written is read, and anything else is an error."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from speechbrain_scl.data.manifest import (
    COLUMNS,
    Utterance,
    read_manifest,
    write_manifest,
)
from speechbrain_scl.errors import UserError

GOOD = "a,1.0,a.wav,0,16000,ann"

text = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\r"),
    min_size=1,
)
utterances = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)).flatmap(
        lambda ends: st.builds(
            Utterance,
            ID=text,
            duration=st.floats(1e-3, 1e6),
            wav=text,
            start=st.just(ends[0]),
            stop=st.just(sum(ends)),
            spk_id=text,
        )
    ),
    unique_by=lambda utterance: utterance.ID,
)


@settings(max_examples=20)
@given(utterances)
def test_what_is_written_is_read(tmp_path, rows):
    write_manifest(tmp_path / "train.csv", rows)
    assert read_manifest(tmp_path / "train.csv") == rows


@settings(max_examples=20)
@given(
    st.one_of(
        st.binary(max_size=300),
        # A table that is nearly one
        st.lists(
            st.lists(
                st.sampled_from(["a", "", "1.0", "0", "16000", "nan", "-1"]),
                max_size=8,
            )
        ).map(lambda rows: "\n".join(map(",".join, [COLUMNS, *rows])).encode()),
    )
)
def test_garbage_is_an_error_or_utterances(tmp_path, content):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    try:
        rows = read_manifest(path)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert len({u.ID for u in rows}) == len(rows)
    for utterance in rows:
        assert utterance.ID and utterance.wav and utterance.spk_id
        assert 0 <= utterance.start < utterance.stop
        assert 0 < utterance.duration < math.inf


@pytest.mark.parametrize(
    "row, message",
    [
        ("b,1.0,b.wav,0,16000", "line 3"),
        ("b,long,b.wav,0,16000,ann", "line 3: could not convert"),
        ("b,nan,b.wav,0,16000,ann", "line 3: duration=nan"),
        ("b,1.0,b.wav,16000,16000,ann", "line 3: start=16000, stop=16000"),
        ("b,1.0,,0,16000,ann", "line 3: wav is empty"),
        ("a,1.0,b.wav,0,16000,ann", "line 3: the ID a comes twice"),
        ("b,1.0,\udcff.wav,0,16000,ann", "line .*: 'utf-8' codec"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, row, message):
    path = tmp_path / "train.csv"
    lines = "\n".join([",".join(COLUMNS), GOOD, row])
    path.write_bytes(lines.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        read_manifest(path)
