"""One SpeechBrain with the series, for all tests of them."""

import pytest
from upstream_tree import GIVEN, PURE, checkout, export


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """With all series that fit."""
    tree = checkout(tmp_path_factory.mktemp("speechbrain"))
    for series in export.SERIES if GIVEN else PURE:
        export.export(tree, series, "Ada Lovelace 2026")
    return tree
