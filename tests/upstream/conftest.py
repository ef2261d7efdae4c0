"""One SpeechBrain with all series, for all tests of them."""

import pytest
from upstream_tree import checkout, export


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """With all series."""
    tree = checkout(tmp_path_factory.mktemp("speechbrain"))
    for series in export.SERIES:
        export.export(tree, series, "Ada Lovelace 2026")
    return tree
