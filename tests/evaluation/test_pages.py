"""The HTML pages: what they say, to whom, and how they look in a browser."""

import html
import re
import shutil
import subprocess

import numpy as np
import pytest

from speechbrain_scl.evaluation.pages import training_log, wording
from speechbrain_scl.evaluation.pages.comparison import write_comparison
from speechbrain_scl.evaluation.pages.report import write_report
from speechbrain_scl.evaluation.report import measure
from speechbrain_scl.evaluation.trials import Trials, read_trials

NAME = "<script>alert(1)</script>"
LONG = "a-list-with-a-name-as-long-as-the-corpora-of-some-people-have-them"
RUN = {
    "date": "2026-01-02 03:04 +0000",
    "command": f"python verify.py --data_folder={'/long' * 40}",
    "model": NAME,
    "data": [NAME],
    "lists": [f"{LONG}.txt"],
    "training": {"classification": "AAM", "contrastive_loss": None},
    "versions": {"torch": "2"},
}
FACTS = {
    "run": RUN,
    "backend": "cosine",
    "crops": None,
    "model": "model.ckpt",
    "model_sha256": "0" * 64,
}
LOG = """\
epoch: 1, lr: 1e-03 - train loss: 4.9, train classification: 14.0, \
train contrastive: 4.6, train weight_classification: 3.5e-02, \
train weight_contrastive: 9.7e-01 - valid EER: 2.9e-01
epoch: 2, lr: 1e-03 - train loss: 3.9, train classification: 11.0, \
train contrastive: 4.2, train weight_classification: 4.5e-02, \
train weight_contrastive: 9.5e-01 - valid EER: 1.9e-01
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def trials(folder):
    path = folder / "list.txt"
    path.write_text("1 a/1 a/2\n0 a/1 b/1\n0 b/1 a/2\n1 b/1 b/2\n")
    return read_trials(str(path))


@pytest.fixture(scope="module")
def written(trials, folder):
    """The report of two lists, one with a hostile name, and its training."""
    scored = trials.with_scores([2.0, -1.0, 0.5, 1.0])

    class Conditions:
        def parts(self, trials):
            yield NAME, trials.labels  # targets only: no rate

    found = measure(
        scored,
        lambda name: name.split("/")[0],
        n_resamples=0,
        calibrated=True,
        conditions=Conditions(),
    )
    log = folder / "train_log.txt"
    log.write_text(LOG)
    target = folder / "report.html"
    names = (NAME, LONG)
    write_report(
        str(target),
        dict.fromkeys(names, found),
        dict.fromkeys(names, scored),
        FACTS,
        dict.fromkeys(names, "scores & more.txt"),
        str(log),
    )
    return target


@pytest.fixture(scope="module")
def compared(folder):
    target = folder / "comparison.html"
    lists = ["b", "c", "d", "e", LONG]
    cells = dict.fromkeys(lists, (0.1, 0.8))
    write_comparison(
        str(target),
        {"aam": {1: cells, 2: cells}, NAME: {1: cells, 2: cells}},
        {NAME: dict.fromkeys(lists, (-0.5, -1.0, 0.1))},
        {NAME: (0.95, 0.9, 1.02)},
        {NAME: {1: 0.931, 2: 0.969}},
        {"aam": {1: [0.3, 0.2]}, NAME: {2: [0.25, 0.15]}},
        {"aam": {1: {"report": "aam/1/report.html"}}},
        {"aam": {1: {"b": {"fold1": "aam/1/f 1.txt", NAME: "f2.txt"}}}},
        {"command": NAME},
    )
    return target


def test_names_are_text_and_missing_figures_are_dashes(written, compared):
    for path in (written, compared):
        text = path.read_text(encoding="utf-8")
        assert NAME not in text and "&lt;script&gt;" in text
        fetched = re.findall(r'(?:src|href)="((?!#)[^"]*)"', text)
        assert fetched and not any(":" in link for link in fetched)
        ids = re.findall(r' id="([^"]+)"', text)
        assert len(ids) == len(set(ids))
    assert "<span>–</span>" in written.read_text(encoding="utf-8")
    for link in ("aam/1/report.html", "aam/1/f%201.txt", "f2.txt"):
        assert f'href="{link}"' in text


def test_the_report_says_what_when_and_how(written):
    text = written.read_text(encoding="utf-8")
    for said in (RUN["date"], "torch 2", "0" * 64, "<dd>AAM</dd>"):
        assert said in text
    assert RUN["command"] in re.sub("</?span>", "", text)
    assert "contrastive loss" not in text
    assert "95 % intervals" not in text  # there are none
    # The result stands before all else, the circumstances at the end.
    places = [
        text.index(part)
        for part in ("equal error rate", "<table", "<svg", "Training", "date<")
    ]
    assert places == sorted(places)
    for link in ("metrics.json", "scores%20%26%20more.txt", "train_log.txt"):
        assert f'href="{link}"' in text


def test_the_log_gives_the_curves(tmp_path):
    path = tmp_path / "train_log.txt"
    # The second epoch was interrupted and run again.
    path.write_text(LOG.splitlines()[1].replace("1.9e-01", "nan") + "\n" + LOG)
    epochs = training_log.read_training_log(str(path))
    assert [epochs[e]["EER"] for e in (1, 2)] == [0.29, 0.19]
    figures = training_log.training_curves(epochs)
    lines = {
        title: [list(line.get_ydata()) for line in figure.axes[0].lines]
        for title, figure in figures.items()
    }
    assert lines["loss"] == [[14.0, 11.0], [4.6, 4.2]]
    folder = tmp_path / "inference"
    assert training_log.find_training_log(str(folder)) is None
    folder.mkdir()
    assert training_log.find_training_log(str(folder)) == str(path)


@pytest.mark.parametrize(
    "cllr, least, said",
    [
        (0.5, 0.45, "well calibrated"),
        (0.5, 0.2, "60 % is lost"),
        (1.3, 0.2, "worse than not listening"),
    ],
)
def test_the_calibration_is_judged(cllr, least, said):
    assert said in wording.calibration({"cllr": cllr, "min_cllr": least})


def test_a_decision_that_is_never_taken_is_told():
    found = {"cllr": 0.5, "p_target": 0.01, "act_dcf": 0.9}

    def scored(*scores):
        labels = np.array([True, True, False])
        return Trials("", [], [], None, None, labels, np.array(scores))

    never = wording.decision(found, scored(4.0, 1.0, -3.0))
    assert "4.60" in never and "none of the 2 target trials" in never
    once = wording.decision(found, scored(5.0, 1.0, -3.0))
    assert "1 of 2 target trials and 0 of 1 impostor" in once
    assert "Rejecting everyone" not in once
    worse = wording.decision(found | {"act_dcf": 1.1}, scored(5.0, 5.0, 5.0))
    assert worse.endswith(
        "Rejecting everyone would cost less (actDCF above 1)."
    )
    assert wording.decision({}, scored(1.0, 1.0, 0.0)) == ""


@pytest.mark.skipif(
    not shutil.which("chromium"), reason="needs the browser chromium"
)
def test_a_browser_shows_them(written, compared, tmp_path):
    """At any width and in the dark: the first sentence is on the screen, none
    has to scroll sideways, and no error is logged."""
    sizes = [(390, 844), (820, 1180), (1440, 900)]
    frames = [
        (f"{path.name} {scheme} {width}", width, height, scheme, path)
        for path in (written, compared)
        for width, height in sizes
        for scheme in ("light", "dark")
    ]
    harness = tmp_path / "harness.html"
    harness.write_text(
        "<body>"
        + "".join(
            f'<iframe name="{name}" width="{width}" height="{height}" '
            f'style="border: 0; color-scheme: {scheme}" '
            f'srcdoc="{html.escape(path.read_text(encoding="utf-8"))}">'
            "</iframe>"
            for name, width, height, scheme, path in frames
        )
        + """<pre id="seen"></pre><script>onload = () => {
        seen.textContent = [...document.querySelectorAll("iframe")].map(f => {
          const page = f.contentDocument.documentElement;
          const lead = page.querySelector(".lead");
          const [ink, paper] = ["color", "backgroundColor"].map(key =>
            parseInt(f.contentWindow.getComputedStyle(page.querySelector(
              "body"))[key].match(/\\d+/)[0]));
          const inside = lead.textContent && lead.offsetHeight &&
            lead.getBoundingClientRect().bottom <= f.height;
          return f.name + (inside ? ": read" : ": hidden") + ", " +
            Math.max(page.scrollWidth - page.clientWidth, 0) + " too wide, " +
            (ink > paper + 150 ? "dark" : ink < paper - 150 ? "light" : "?");
        }).join("\\n"); };</script>""",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
        + ["--no-first-run", "--disable-background-networking"]
        + ["--disable-component-update", "--disable-sync", "--disable-quic"]
        + [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
        + ["--dump-dom", harness.as_uri()],
        capture_output=True,
        text=True,
        timeout=900,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1].split("\n") == [
        f"{name}: read, 0 too wide, {scheme}" for name, *_, scheme, _ in frames
    ]
    assert "CONSOLE" not in done.stderr
