"""Pictures of scored trials."""

from xml.etree import ElementTree

import numpy as np
import pytest

from speechbrain_scl.evaluation import plots
from speechbrain_scl.evaluation.trials import Trials


@pytest.mark.parametrize("name", ["cost$_{$", "a$b$c", "_hidden", "<b>&amp;"])
def test_any_name_of_a_list_is_shown(name):
    """matplotlib takes $ for a formula's, and _ for what not to show."""
    labels = np.arange(40) % 2 == 0
    scores = labels + np.arange(40) / 30
    trials = Trials("", [], [], None, None, labels, scores)
    figure = plots.det({name: trials})
    text = "".join(ElementTree.fromstring(plots.svg(figure)).itertext())
    assert name in text
