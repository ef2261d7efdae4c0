"""The options of a verification run, on a trained encoder."""

import errno
import html.parser
import itertools
import json
import re
import shutil

import kaldiio
import numpy as np
import pytest
import soundfile
from commands import LISTS, verification
from tensorboard.backend.event_processing import event_accumulator

from speechbrain_scl import files
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.data.splits import FEWEST_TEST_SPEAKERS
from speechbrain_scl.errors import UserError, user_errors_in_one_line
from speechbrain_scl.evaluation import plots, results
from speechbrain_scl.evaluation.calibration import Calibration
from speechbrain_scl.evaluation.metrics import act_dcf, cllr
from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.evaluation.verification import verify


@pytest.fixture
def run(trained, corpus, tmp_path, monkeypatch):
    """Runs with overrides; returns the figures, and the scores by list."""

    def run(*overrides, lists=LISTS, drawn=False):
        output, scored = tmp_path / "out", []
        arguments = trained, corpus, output, *overrides
        read = read_experiment(verification(*arguments, lists=lists))
        with monkeypatch.context() as patch:
            if not drawn:  # most of a run's time
                patch.setattr(plots, "save", lambda *_: None)
                patch.setattr(plots, "svg", lambda *_: "")
            metrics = verify(*read[:2])
        for name in lists:
            suffix = f"-{name}" if len(lists) > 1 else ""
            rows = (output / f"scores{suffix}.txt").read_text().splitlines()
            labels, *sides, scores = zip(*map(str.split, rows))
            labels = np.array(labels) == "1"
            scored.append((np.array(scores, dtype=float), labels, *sides))
        return metrics, scored

    return run


def test_calibrated_scores_are_measured_as_such(run, trained, corpus, tmp_path):
    raw, cosines = run()
    path = tmp_path / "out" / "calibration.json"
    by_default = json.loads(path.read_text())
    path.unlink()
    metrics, scored = run(
        f"--calibration={trained / 'save' / 'valid.csv'}",
        f"--metadata={corpus / 'metadata.csv'}",
        "--conditions=[gender, language]",
    )
    done = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert done["calibrated"] and json.loads(path.read_text()) == by_default
    for name, (scores, labels, *_) in zip(LISTS, scored):
        found = metrics[name]
        assert found["eer"] == pytest.approx(raw[name]["eer"])
        assert found["act_dcf"] == pytest.approx(act_dcf(scores, labels))
        assert found["cllr"] == pytest.approx(cllr(scores, labels), abs=1e-4)
        assert found["min_cllr"] <= found["cllr"]
        assert "cllr" not in raw[name]  # cosines stay cosines
        for column in ("gender", "language"):
            parts = found["conditions"].items()
            n_trials = [p["n_trials"] for x, p in parts if column in x]
            assert len(n_trials) > 1 and sum(n_trials) == len(scores)

    held_out = f"--calibration={trained / 'save' / 'valid.csv'}"
    _, scored = run(held_out, "--calibrate_duration=True")
    calibration = Calibration.load(path)
    assert calibration.duration
    for (found, *_), (cosine, _, *sides) in zip(scored, cosines):
        seconds = [
            [soundfile.info(corpus / "wav" / x).duration for x in side]
            for side in sides
        ]
        wanted = calibration(cosine, np.min(seconds, axis=0))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_models_of_several_utterances(run, corpus, tmp_path):
    """Both conventions agree for models of one utterance, not of several; a
    model that bears the name of a test utterance is not taken for it."""
    names = (corpus / f"{LISTS[0]}.txt").read_text().split()
    names = sorted({*names} - {*"01"})
    of_speaker = itertools.groupby(names, lambda name: name.split("/")[0])
    of_speaker = {speaker: [*names] for speaker, names in of_speaker}
    tests = [name for names in of_speaker.values() for name in names[2:]]
    trials, enrolled = tmp_path / "models.txt", tmp_path / "models.map"

    def scores(n, model, convention):
        models = {model.format(*x): x[1][:n] for x in of_speaker.items()}
        lines = [
            f"{a} {b} {int(a.split('/')[0] == b.split('/')[0])}"
            for a, b in itertools.product(models, tests)
        ]
        trials.write_text("\n".join(lines))
        lines = [" ".join([model, *names]) for model, names in models.items()]
        enrolled.write_text("\n".join(lines))
        _, ((found, *_),) = run(
            f"--verification_file={trials}",
            f"--enrolment_map={enrolled}",
            f"--enrolment={convention}",
            lists=["models"],
        )
        return found

    both = ("mean", "concatenate")
    one, joined = (scores(1, "{0}/m", c) for c in both)
    np.testing.assert_allclose(one, joined, atol=1e-5)
    two = [scores(2, "{0}/m", convention) for convention in both]
    for found, convention in zip(two, both):
        assert np.array_equal(found, scores(2, "{1[2]}", convention))
        assert not np.allclose(found, one, atol=1e-3)
    assert not np.allclose(*two, atol=1e-4)


def limited(size):
    """``open``, on a disk with so many bytes of room for each file."""

    def opened(*args, **kwargs):
        file = open(*args, **kwargs)
        write, left = file.write, [size]

        def written(content):
            left[0] -= len(content)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(content)

        file.write = written
        return file

    return opened


def test_a_full_disk_leaves_nothing_half_written(run, tmp_path, monkeypatch):
    """Whatever was finished is whole, and the next run is none the wiser."""
    _, wanted = run("--bootstrap=5")
    shutil.rmtree(tmp_path / "out")
    ark = tmp_path / "out" / "e.ark"
    for size in (60, 60_000):
        with (
            monkeypatch.context() as patch,
            pytest.raises(SystemExit, match="free space"),
            user_errors_in_one_line(),
        ):
            patch.setattr(files, "open", limited(size), raising=False)
            run("--bootstrap=5", f"--embeddings_file={ark}", drawn=True)
        assert not list((tmp_path / "out").glob(".aside*"))
        assert not ark.exists() or kaldiio.load_scp(str(ark)[:-3] + "scp")
    _, found = run("--bootstrap=5", f"--embeddings_file={ark}")
    for one, other in zip(found, wanted):
        assert np.array_equal(one[0], other[0])


def test_crops_and_a_file_against_itself(run, corpus, tmp_path):
    metrics, ((plain, *_), _) = run()
    assert not any("itself" in str(x["remarks"]) for x in metrics.values())
    with np.load(tmp_path / "out" / "test_embeddings.npz") as stored:
        names, vectors = stored["ids"], stored["embeddings"]
    assert vectors.shape == (len(names), 192)
    rows = (corpus / f"{LISTS[0]}.txt").read_text().splitlines()
    target = next(r.split()[1] for r in rows if r.startswith("1"))
    own = tmp_path / "own.txt"
    own.write_text("\n".join([*rows, f"1 {target} {target}"]))
    options = f"--verification_file={own}", "--crops=[3, 0.4]"
    metrics, ((crops, *_),) = run(*options, lists=["own"])
    (remark,) = [r for r in metrics["own"]["remarks"] if "itself" in r]
    assert remark.startswith("1 of ")
    crops = crops[:-1]
    assert np.corrcoef(plain, crops)[0, 1] > 0.5
    assert not np.allclose(plain, crops, atol=1e-3)


def test_lists_of_one_name_are_refused(run):
    """The second one's results would take the place of the first one's."""
    with pytest.raises(UserError, match="need different file names"):
        run(lists=[LISTS[0]] * 2)


class Page(html.parser.HTMLParser):
    """Every element closes."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """It is closed already."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_needs_no_network(run, tmp_path):
    folder = tmp_path / "tensorboard"
    metrics, _ = run("--bootstrap=5", f"--tensorboard={folder}", drawn=True)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    Page(text)
    # A DET plot, a histogram per list, and three curves of the training
    assert text.count("<svg") == 1 + len(LISTS) + 3
    beside = set(re.findall(r'(?:src|href)="([^#"]+)"', text))
    assert beside > {"metrics.json", "det.png"}
    for link in beside:
        assert (tmp_path / "out" / link).is_file(), link
    for found in metrics.values():
        assert f"{100 * found['eer']:.2f}" in text
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    for name, found in metrics.items():
        (scores,) = events.Histograms(f"scores of targets/{name}")
        assert scores.histogram_value.num == found["n_targets"]
    assert len(list(folder.rglob("*.tsv"))) == 2  # vectors and their names
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())["run"]
    assert told["model"].endswith("inference") and told["model"] in text
    assert len(told["lists"]) == len(LISTS) and "torch" in told["versions"]


def test_the_figures_come_before_the_pictures(run, tmp_path, monkeypatch):
    """A picture that fails loses nothing that took hours."""
    monkeypatch.setattr(plots, "det", None)
    with pytest.raises(TypeError):
        run()
    done = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(done["trials"]) == set(LISTS)


def test_a_gpu_is_used_where_there_is_one(run, monkeypatch):
    found = []
    module = "speechbrain_scl.evaluation.verification"
    monkeypatch.setattr(f"{module}.infer_device", lambda: "gpu")
    monkeypatch.setattr(f"{module}.load_encoder", lambda *x: found.extend(x))
    for used, *asked in (["gpu"], ["cpu", "--device=cpu"]):
        found.clear()
        with pytest.raises(AttributeError):  # there is no encoder
            run(*asked)
        assert used in found


def test_the_table_says_what_to_doubt(tmp_path):
    """Here labels the wrong way round, instead of a bad EER."""
    pairs = itertools.product(range(FEWEST_TEST_SPEAKERS), repeat=2)
    lines = [f"{int(a == b)} {a}/1 {b}/2\n" for a, b in pairs]
    (tmp_path / "trials.txt").write_text("".join(lines))
    trials = read_trials(str(tmp_path / "trials.txt"))
    noise = np.random.default_rng(0).normal(size=len(lines))
    for scores, doubted in (
        (trials.labels + noise, False),
        (-10.0 * trials.labels, True),
    ):
        scored = trials.with_scores(scores)
        found, _ = results.measure(scored, lambda name: name.split("/")[0])
        said = results.table({"list": found})
        assert ("targets score lower than impostors" in said) == doubted
        assert found["eer_ci"] is not None and "no interval" not in said


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["--score_norm=snorm"], "score_norm='snorm': choose one of"),
        (["--enrolment=avg"], "enrolment='avg': choose one of"),
        (["--backend=plda"], "cannot give a covariance of 192 dimensions"),
        (["--backend=plda", "--score_norm=s-norm"], "log-likelihood ratios"),
        (["--crops=[5]"], "how many, seconds"),
        (["--calibration=gone.csv"], "gone.csv: there is no such manifest"),
        (["--enrolment_map=gone.map"], "gone.map: there is no such file"),
        (["--metadata=gone.csv"], "gone.csv: there is no such file"),
        (["--speaker_pattern=(id[0-9]+)-"], "does not match"),
        (["--speaker_pattern=(id[0-9]+)"], "verification_small.yaml: "),
        (["--speaker_pattern=(id.+)"], "does not end in a bracket"),
        (["--speaker_pattern=id"], "one group is the speaker"),
        (
            ["--score_norm=as-norm", "--top_n=99", "--pretrain_path=gone/a/b"],
            "top_n=99 needs 99",
        ),
        (["--pretrain_path=gone/a/b"], "there is no such folder"),
    ],
)
def test_a_wrong_option_is_told(run, overrides, message):
    with pytest.raises(UserError, match=message):
        run(*overrides)
