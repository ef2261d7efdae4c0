"""The options of a verification run, on a trained encoder."""

import csv
import html.parser
import json

import numpy as np
import pytest
from commands import LISTS, RECIPE, trial_option

from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.metrics import eer
from speechbrain_scl.evaluation.ratios import act_dcf, cllr
from speechbrain_scl.evaluation.verification import verify


@pytest.fixture
def run(trained, corpus, tmp_path):
    """Runs with overrides; returns the figures, and the scores by list."""

    def run(*overrides, lists=LISTS):
        params, run_opts, _, _ = read_experiment(
            [
                str(RECIPE / "../../../hparams/verification_small.yaml"),
                f"--data_folder={corpus}",
                f"--pretrain_path={trained / 'inference'}",
                f"--output_folder={tmp_path / 'out'}",
                f"--cohort={trained / 'save' / 'train.csv'}",
                "--bootstrap=0",
                trial_option(corpus, "verification_file", lists),
                *overrides,
            ]
        )
        return verify(params, run_opts), [
            read_scores(tmp_path / "out", name, len(lists)) for name in lists
        ]

    return run


def read_scores(folder, name, n_lists):
    suffix = f"-{name}" if n_lists > 1 else ""
    rows = (folder / f"scores{suffix}.txt").read_text().splitlines()
    labels, enrol, test, scores = zip(*(row.split() for row in rows))
    return np.array(scores, dtype=float), np.array(labels) == "1", enrol, test


def test_calibrated_scores_are_measured_as_such(run, trained, tmp_path):
    raw, _ = run()
    metrics, scored = run(f"--calibration={trained / 'save' / 'valid.csv'}")
    done = json.loads((tmp_path / "out" / "metrics.json").read_text())
    fit = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert done["calibrated"] and fit["scale"] > 0
    for name, (scores, labels, *_) in zip(LISTS, scored):
        found = metrics[name]
        assert found["eer"] == pytest.approx(raw[name]["eer"])
        assert found["act_dcf"] == pytest.approx(act_dcf(scores, labels))
        assert found["cllr"] == pytest.approx(cllr(scores, labels), abs=1e-4)
        assert found["min_cllr"] <= found["cllr"]


def test_conditions_partition_the_trials(run, corpus):
    metrics, scored = run(
        f"--metadata={corpus / 'metadata.csv'}",
        "--conditions=[gender, language]",
        lists=LISTS[1:],
    )
    (found,) = metrics.values()
    ((scores, labels, enrol, test),) = scored
    with open(corpus / "metadata.csv", newline="") as file:
        language = {
            row["path"]: row["language"] for row in csv.DictReader(file)
        }
    parts = {
        name: part
        for name, part in found["conditions"].items()
        if name.startswith("language: ")
    }
    assert len(parts) > 1
    assert sum(p["n_trials"] for p in parts.values()) == found["n_trials"]
    for name, part in parts.items():
        pair = name.removeprefix("language: ").split(" - ")
        chosen = [
            {language[a], language[b]} == set(pair) for a, b in zip(enrol, test)
        ]
        assert part["n_trials"] == sum(chosen)
        if part["eer"] is not None:
            wanted = eer(scores[chosen], labels[chosen])[0]
            assert part["eer"] == pytest.approx(wanted, abs=0.02)


def test_models_of_several_utterances(run, trained, corpus, tmp_path):
    """Both conventions agree for models of one utterance, not of several."""
    lines = (corpus / f"{LISTS[0]}.txt").read_text().split("\n")
    rows = [line.split() for line in lines if line]
    utterances = sorted({row[1] for row in rows} | {row[2] for row in rows})
    of_speaker = {}
    for name in utterances:
        of_speaker.setdefault(name.split("/")[0], []).append(name)
    trials = tmp_path / "models.txt"
    trials.write_text(
        "".join(
            f"{speaker}/model {name} {int(name.startswith(speaker))}\n"
            for speaker in of_speaker
            for names in of_speaker.values()
            for name in names[2:]
        )
    )
    scored = {}
    for n in (1, 2):
        models = tmp_path / f"{n}.map"
        models.write_text(
            "".join(
                f"{speaker}/model {' '.join(names[:n])}\n"
                for speaker, names in of_speaker.items()
            )
        )
        for convention in ("mean", "concatenate"):
            _, ((scores, *_),) = run(
                f"--verification_file={trials}",
                f"--enrolment_map={models}",
                f"--enrolment={convention}",
                lists=["models"],
            )
            scored[n, convention] = scores
    np.testing.assert_allclose(
        scored[1, "mean"], scored[1, "concatenate"], atol=1e-5
    )
    assert not np.allclose(scored[2, "mean"], scored[1, "mean"], atol=1e-3)
    assert not np.allclose(
        scored[2, "mean"], scored[2, "concatenate"], atol=1e-4
    )


def test_crops_and_cohorts_change_the_scores(run, tmp_path):
    _, ((plain, *_), _) = run()
    with np.load(tmp_path / "out" / "test_embeddings.npz") as stored:
        names, vectors = stored["ids"], stored["embeddings"]
    assert vectors.shape == (len(names), 192)
    _, ((crops, *_), _) = run("--crops=[3, 0.4]")
    assert np.corrcoef(plain, crops)[0, 1] > 0.5
    assert not np.allclose(plain, crops, atol=1e-3)
    found = [
        run("--score_norm=s-norm", f"--cohort_of={of}")[1][0][0]
        for of in ("speakers", "utterances")
    ]
    assert not np.allclose(*found, atol=1e-3)


def test_lists_of_one_name_are_refused(run, corpus, tmp_path):
    """The second one's results would take the place of the first one's."""
    source = corpus / f"{LISTS[0]}.txt"
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    with pytest.raises(UserError, match="need different file names"):
        run(f"--verification_file=[{source}, {copy}]", lists=["none"])


class Page(html.parser.HTMLParser):
    """Every element closes, and nothing is fetched."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [
            value
            for key, value in attributes
            if key in ("src", "href", "xlink:href")
        ]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_needs_no_network(run, tmp_path):
    metrics, _ = run("--bootstrap=5")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    # A DET plot, a histogram per list, and three curves of the training
    assert page.open == [] and page.seen.count("svg") == 1 + len(LISTS) + 3
    beside = {link for link in page.links if not link.startswith("#")}
    assert beside > {"metrics.json", "det.png"}
    for link in beside:
        assert (tmp_path / "out" / link).is_file(), link
    for found in metrics.values():
        assert f"{100 * found['eer']:.2f}" in text
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())["run"]
    assert told["model"].endswith("inference") and told["model"] in text
    assert len(told["lists"]) == len(LISTS) and "torch" in told["versions"]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["--score_norm=snorm"], "score_norm='snorm': choose one of"),
        (["--enrolment=avg"], "enrolment='avg': choose one of"),
        (["--backend=plda"], "cannot give a covariance of 192 dimensions"),
        (
            ["--backend=plda", "--score_norm=s-norm"],
            "backend=plda gives log-likelihood ratios",
        ),
        (["--crops=[5]"], "how many, seconds"),
        (["--calibration=gone.csv"], "gone.csv: there is no such manifest"),
        (["--enrolment_map=gone.map"], "enrolment_map=gone.map"),
        (["--metadata=gone.csv"], "gone.csv: there is no such metadata"),
        (["--speaker_pattern=(id[0-9]+)-"], "does not match"),
        (["--speaker_pattern=(id[0-9]+)"], "verification_small.yaml: "),
        (["--speaker_pattern=(id.+)"], "does not end in a bracket"),
        (["--speaker_pattern=id"], "one group is the speaker"),
        (["--score_norm=as-norm", "--top_n=99"], "top_n=99 needs 99"),
        (["--pretrain_path=gone/a/b"], "there is no such folder"),
    ],
)
def test_a_wrong_option_is_told(run, overrides, message):
    with pytest.raises(UserError, match=message):
        run(*overrides)
