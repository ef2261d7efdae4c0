"""Wrong labels for a training."""

import sys

from commands import RECIPE, ROOT, SMALL, trial_option

from speechbrain_scl.data.manifest import read_manifest

sys.path.insert(0, str(ROOT / "benchmarks"))
from mislabel import mislabelled_training  # noqa: E402


def test_a_share_of_a_manifest_gets_wrong_labels(corpus, tmp_path):
    arguments = [
        str(RECIPE / SMALL[0]),
        *SMALL[1:],
        f"--data_folder={corpus}",
        f"--output_folder={tmp_path}",
        trial_option(corpus, "verification_file"),
    ]
    places = []
    for _ in range(2):
        *_, noisy = mislabelled_training(arguments, 0.5, seed=1)
        places.append(list(sys.path))
    assert places[0] == places[1]
    clean = read_manifest(str(tmp_path / "save" / "train.csv"))
    found = read_manifest(noisy.removeprefix("--train_annotation="))
    wrong = [a.spk_id != b.spk_id for a, b in zip(clean, found, strict=True)]
    assert sum(wrong) == len(clean) // 2
    assert [u.wav for u in clean] == [u.wav for u in found]
