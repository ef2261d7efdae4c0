"""The HTML pages: what they say, to whom, and how they look in a browser."""

import html
import itertools
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from ladder_page import write_comparison

from speechbrain_scl.evaluation import plots, report
from speechbrain_scl.evaluation.metrics import Counts
from speechbrain_scl.evaluation.report import load_template, write_report
from speechbrain_scl.evaluation.results import measure, rates
from speechbrain_scl.evaluation.trials import read_trials

NAME = "<script>alert(1)</script>"
LONG = "a-list-with-a-name-as-long-as-the-corpora-of-some-people-have-them"
RUN = {
    "date": "2026-01-02 03:04 +0000",
    "command": f"python verify.py --data_folder={'/long' * 40}",
    **{"model": NAME, "data": [NAME], "lists": [f"{LONG}.txt"]},
    "training": {"classification": "AAM", "contrastive_loss": None},
    "versions": {"torch": "2"},
}
FACTS = {"run": RUN, "backend": "cosine", "crops": None}
FACTS |= {"model": "model.ckpt", "model_sha256": "0" * 64}
LOG = "".join(
    f"epoch: {epoch}, lr: 1e-03 - train loss: 4.9, train classification: {aam}, "
    f"train contrastive: {supcon}, train weight_classification: 3.5e-02, "
    f"train weight_contrastive: 9.7e-01 - valid EER: {eer}\n"
    for epoch, aam, supcon, eer in ((1, 14, 4.6, 0.29), (2, 11, 4.2, 0.19))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def written(folder):
    """The report of two lists, one with a hostile name, and its training."""
    (folder / "list.txt").write_text(
        "1 a/1 a/2\n0 a/1 b/1\n0 b/1 a/2\n1 b/1 b/2\n"
    )
    trials = read_trials(str(folder / "list.txt"))
    # Conditions in one of them, with a part of targets only: no rate
    parts = {NAME: [], LONG: [([NAME, "rest"], 1 - trials.labels)]}
    measured = {
        name: measure(
            trials.with_scores([2.0, -1.0, 0.5, 1.0]),
            lambda name: name.split("/")[0],
            n_resamples=0,
            calibrated=True,
            conditions=conditions,
        )
        for name, conditions in parts.items()
    }
    (folder / "train_log.txt").write_text(LOG)
    (folder / "suspects.csv").write_text(
        "utterance,speaker,best_speaker,margin\n"
        f"ann-1,ann,{NAME},-0.4\nann-2,ann,bob,-0.1\n"
    )
    (folder / "save").mkdir()
    (folder / "save" / "train.csv").write_text(
        f"ID,duration,wav,start,stop,spk_id\nann-1,1,{folder}/a 1.wav,0,1,ann\n"
    )
    write_report(
        str(folder),
        measured,
        FACTS,
        dict.fromkeys((NAME, LONG), "scores & more.txt"),
        str(folder / "train_log.txt"),
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def compared(folder):
    target = folder / "comparison.html"
    lists = ["b", "c", "d", "e", LONG]
    cells = dict.fromkeys(lists, (0.1, 0.8))
    ratios = {"overall": (0.95, 0.9, 1.02)}
    links = {"": {"report": "aam/1/report.html"}}
    links["b"] = {"fold1": "aam/1/f 1.txt", NAME: "f2.txt"}
    write_comparison(
        str(target),
        {"aam": {1: cells, 2: cells}, NAME: {1: cells, 2: cells}},
        {NAME: ratios | dict.fromkeys(lists, (-0.5, -1.0, 0.1))},
        {NAME: {1: 0.931, 2: 0.969}},
        {"aam": {1: [0.3, 0.2]}, NAME: {2: [0.25, 0.15]}},
        {"aam": {1: links}},
        {"command": NAME},
    )
    return target


def test_names_are_text_and_missing_figures_are_dashes(written, compared):
    for path in (written, compared):
        text = path.read_text(encoding="utf-8")
        assert NAME not in text and "&lt;script&gt;" in text
        fetched = re.findall(r'(?:src|href)="((?!#)[^"]*)"', text)
        assert fetched and not any(":" in link for link in fetched)
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
    assert text.count("<audio") == 1 and 'src="a%201.wav"' in text
    assert re.search(r"ann-2.*bob.*-0\.1", text, re.DOTALL)
    for link in ("metrics.json", "scores%20%26%20more.txt", "train_log.txt"):
        assert f'href="{link}"' in text


def test_the_log_gives_the_curves(tmp_path):
    path = tmp_path / "train_log.txt"
    # The second epoch was interrupted and run again.
    path.write_text(LOG.splitlines()[1].replace("0.19", "nan") + "\n" + LOG)
    with open(path, "ab") as file:  # and damaged
        file.write(b"epoch: nan, \xff: 1.2.3e\n")
    epochs = report.read_training_log(str(path))
    assert [epochs[e]["EER"] for e in (1, 2)] == [0.29, 0.19]
    curves = plots.training_curves(epochs)["loss"].axes[0].lines
    assert [list(x.get_ydata()) for x in curves] == [[14, 11], [4.6, 4.2]]
    folder = tmp_path / "inference"
    assert report.find_training_log(str(folder)) is None
    folder.mkdir()
    assert report.find_training_log(str(folder)) == str(path)


def test_any_name_of_a_list_is_shown():
    """matplotlib takes $ for a formula's, and _ for what not to show."""
    names = ["cost$_{$", "a$b$c", "_hidden", "<b>&amp;"]
    counts = Counts.of([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1])
    found = {**rates(counts), "p_target": 0.01}
    lists = dict.fromkeys(names, (found, counts))
    drawn = ElementTree.fromstring(plots.svg(plots.det(lists), "DET"))
    assert set(names) <= {x.replace("\u200b", "") for x in drawn.itertext()}


RATED = {"eer": 0.04, "eer_ci": [0.03, 0.06], "n_speakers": 40}
PERFECT = {"eer": 0.0, "eer_ci": None, "n_speakers": 2}


def decided(scores, cost):
    """What the sentence on decisions takes, of two targets and an impostor."""
    counts = Counts.of(scores, [1, 1, 0])
    found = {**rates(counts), "p_target": 0.01, "act_dcf": cost}
    return found, 4.595, counts.reaching(4.595)


@pytest.mark.parametrize(
    "sentence, facts, told",
    [
        ("error_rate", [RATED], "one pair of the same speaker in 25 is"),
        ("error_rate", [RATED], "between 3.00 and 6.00 % in 95 cases"),
        ("error_rate", [PERFECT], "without an error"),
        (
            "headline",
            [{"a": RATED, "b": PERFECT}],
            "from 0.00 % (b) to 4.00 % (a) over 2 trial lists",
        ),
        ("calibration", [{"cllr": 0.5, "min_cllr": 0.45}], "well calibrated"),
        ("calibration", [{"cllr": 0.5, "min_cllr": 0.2}], "60 % is lost"),
        ("calibration", [{"cllr": 1.3, "min_cllr": 0.2}], "worse than not"),
        ("calibration", [{}], "not calibrated"),
        ("decision", decided([4, 1, -3], 0.9), "none of the 2 target trials"),
        (
            "decision",
            decided([5, 1, -3], 0.9),
            "1 % targets a score of 4.59 says “same speaker”: 1 of 2 target "
            "trials and 0 of 1 impostor trials reach it.",
        ),
        ("decision", decided([5, 5, 5], 1.1), "Rejecting everyone would cost"),
    ],
)
def test_figures_in_sentences(sentence, facts, told):
    text = getattr(load_template("sentences.html").module, sentence)(*facts)
    assert told in " ".join(html.unescape(text).split())


LOOK = """<pre id="seen"></pre><script>onload = () => {
seen.textContent = [...document.querySelectorAll("iframe")].map(frame => {
  const page = frame.contentDocument.documentElement;
  const lead = page.querySelector(".lead");
  const style = frame.contentWindow.getComputedStyle(page.querySelector("body"));
  const [ink, paper] = ["color", "backgroundColor"].map(
    key => parseInt(style[key].match(/\\d+/)[0]));
  const inside = lead.textContent && lead.offsetHeight &&
    lead.getBoundingClientRect().bottom <= frame.height;
  return frame.name + (inside ? ": read" : ": hidden") + ", " +
    Math.max(page.scrollWidth - page.clientWidth, 0) + " too wide, " +
    (ink > paper + 150 ? "dark" : ink < paper - 150 ? "light" : "?");
}).join("\\n"); };</script>"""


@pytest.mark.skipif(
    not shutil.which("chromium"), reason="needs the browser chromium"
)
def test_a_browser_shows_them(written, compared, tmp_path):
    """At any width and in the dark: the first sentence is on the screen, none
    has to scroll sideways, and no error is logged."""
    sizes = [(390, 844), (820, 1180), (1440, 900)]
    frames, names = "", []
    for path in (written, compared):
        page = html.escape(path.read_text(encoding="utf-8"))
        for (width, height), scheme in itertools.product(
            sizes, ("light", "dark")
        ):
            names.append(f"{path.name} {width}: read, 0 too wide, {scheme}")
            frames += (
                f'<iframe name="{path.name} {width}" width="{width}" '
                f'height="{height}" srcdoc="{page}" '
                f'style="border: 0; color-scheme: {scheme}"></iframe>'
            )
    harness = tmp_path / "harness.html"
    harness.write_text(f"<body>{frames}{LOOK}", encoding="utf-8")
    quiet = "gpu background-networking component-update sync quic".split()
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--no-first-run"]
        + [f"--disable-{what}" for what in quiet]
        + [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
        + ["--dump-dom", harness.as_uri()],
        capture_output=True,
        text=True,
        timeout=900,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1].split("\n") == names
    assert "CONSOLE" not in done.stderr
