"""The ladder: which runs it starts, and its tables of those that are there."""

import itertools
import json
import subprocess
import sys
import time

import folds
import ladder
import ladder_report
import numpy as np
import pytest
from commands import ROOT, within

from speechbrain_scl.balancing import FixedBalancer
from speechbrain_scl.command_line.experiment import read_experiment


def climb(folder, *options):
    """Runs the ladder on a list of two speakers in the folder."""
    trials = folder / "list.txt"
    if not trials.exists():
        trials.write_text("1 a/1/x a/2/y\n0 a/1/x b/1/y\n")
    command = ["ladder.py", f"--data-folder={folder}", "--trials", str(trials)]
    command += ["--output", str(folder / "out"), *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command)
        ladder.main()


@pytest.fixture
def ran(monkeypatch):
    """What it runs in the place of the recipe's scripts: (name, folder,
    options) of each; nothing is reported."""
    found = []

    def script(args, folder, name, hparams, *options):
        found.append((name, folder, options))
        (folder / "inference").mkdir(parents=True, exist_ok=True)
        if "verification" in name:
            (folder / args.tests).mkdir(exist_ok=True)
            (folder / args.tests / "metrics.json").touch()

    monkeypatch.setattr(ladder, "script", script)
    monkeypatch.setattr(ladder, "report", lambda *_: None)
    return found


def test_the_rungs_take_the_full_objective_apart():
    rungs = ladder.read_variants(ROOT / "hparams" / "ladder.yaml", None)
    found = {}
    for name, overrides in rungs.items():
        options = [
            str(ROOT / "hparams" / "ecapa_small.yaml"),
            *within(ROOT, "x"),
        ]
        part = read_experiment([*options, *overrides])[0]["objective"]
        found[name] = (
            part.contrastive and part.contrastive.margin,
            part.attention is not None,
            isinstance(part.balancer, FixedBalancer),
        )
    assert found.pop("aam")[0] is None
    assert found == {
        "supcon": (0.0, False, True),
        "margin": (0.2, False, True),
        "attention": (0.2, True, True),
        "balancing": (0.2, True, False),
    }
    with pytest.raises(SystemExit, match="no typo"):
        ladder.read_variants(ROOT / "hparams" / "ladder.yaml", ["typo"])


def pairs(people):
    """The trials of each with each."""
    return [f"{int(a == b)} {a}/1/x {b}/2/y\n" for a in people for b in people]


def leave_run(folder, lists):
    """What a run leaves: list -> its EER, trials and scores."""
    tests = folder / "verification"
    (folder / "inference").mkdir(parents=True)
    tests.mkdir()
    line = "epoch: {}, lr: 1e-03 - train loss: 2.0 - valid EER: {}\n"
    log = line.format(1, 3e-1) + line.format(2, 0.125)
    (folder / "train_log.txt").write_text(log)
    same = {"min_dcf": 0.5, "n_trials": 900, "n_speakers": 8}
    found = {name: {"eer": rate, **same} for name, (rate, *_) in lists.items()}
    (tests / "metrics.json").write_text(json.dumps({"trials": found}))
    for name, (_, trials, scores) in lists.items():
        suffix = f"-{name}" if len(lists) > 1 else ""
        rows = [f"{x.strip()} {score}\n" for x, score in zip(trials, scores)]
        (tests / f"scores{suffix}.txt").write_text("".join(rows))


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch, capsys):
    lines = pairs("stuv")
    (tmp_path / "list.txt").write_text("".join(lines))
    for name, seed, rate, sign in (
        ("aam", "1", 0.25, -1),  # it ranks every trial wrongly
        ("aam", "2", 0.35, -1),
        ("balancing", "1", 0.1, 1),
        ("balancing", "2", 0.2, 1),
    ):
        found = rate, lines, [sign * int(line[0]) for line in lines]
        leave_run(tmp_path / "out" / name / seed, {"list": found})
    monkeypatch.setattr(ladder, "script", None)  # calling it would fail
    climb(tmp_path, "--seeds", "1", "2", "--only", "aam", "balancing")
    table = capsys.readouterr().out
    assert "| aam | 12.50 ± 0.00 | 30.00 ± 7.07 / 0.500 ± 0.000 |" in table
    difference = next(line for line in table.splitlines() if "-15.00" in line)
    # The mean ratio of the lists' EERs: of one list, 15 % over 30 %
    assert difference.startswith("| balancing | 0.500 (")
    assert difference.endswith("| -15.00 (-100.00 to -100.00) |")
    assert len((tmp_path / "out" / "results.csv").read_text().split()) == 9
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "balancing has 50.0 % less EER than aam" in page
    assert 'href="aam/1/verification/scores.txt"' in page
    assert 'href="balancing/2/train_log.txt"' in page
    assert "<span>ladder.py</span> <span>--data-folder" in page


def test_the_overall_ratio_is_paired_over_folds_seeds_and_lists(tmp_path):
    """Two systems whose scores are equal but for one fold of one list."""
    parts, rng = {}, np.random.default_rng(0)
    for fold in ("fold1", "fold2"):
        left = {"aam": {}, "full": {}}
        for name in ("near", "far"):
            parts.setdefault(fold, []).append(tmp_path / f"{name}.txt")
            lines = pairs([f"{fold}{name}{i}" for i in range(8)])
            labels = np.array([int(line[0]) for line in lines])
            noise = rng.normal(size=64)
            for variant in left:
                better = (variant, fold, name) == ("full", "fold1", "far")
                rate, shift = (0.05, 4.0) if better else (0.2, 0.5)
                left[variant][name] = rate, lines, shift * labels + noise
        for variant, seed in itertools.product(left, "12"):
            leave_run(tmp_path / variant / seed / fold, left[variant])
    runs = ladder_report.Ladder(tmp_path, ["aam", "full"], [1, 2], parts)
    rates = ladder_report.rates_of_lists(runs, runs.of_each(runs.figures))
    found = ladder_report.differences(runs, rates)["full"]
    # Folds: the mean of 20 and 5 %, against 20 %; the other list is the same
    assert found["far"][0] == pytest.approx(-7.5)
    assert found["near"] == pytest.approx([0, 0, 0])
    ratio, low, high = found["overall"]
    assert ratio == pytest.approx((0.125 / 0.2) ** 0.5)
    assert low < ratio and high < 1
    (tmp_path / "full/2/fold1/verification/report.html").touch()
    ladder_report.report(runs)
    page = (tmp_path / "comparison.html").read_text()
    assert "means over fold1, fold2" in page
    each = page[page.index("Each run") :]
    assert each.count(f"<span>{ratio:.3f}</span>") == len(runs.seeds)
    assert page.count("1,800 trials of 16 speakers") == 2
    for link in ("report.html", "scores-far.txt"):
        assert f'<a href="full/2/fold1/verification/{link}">fold1</a>' in page
    # None to a report that is not there
    assert "aam/1/fold1/verification/report.html" not in page


@pytest.fixture
def people(tmp_path):
    """18 speakers of three utterances, in two sets and two genders."""
    rows = ["speaker,set,gender"]
    for i in range(18):
        rows.append(f"s{i:02},{'near' if i < 9 else 'far'},{'mf'[i % 2]}")
        folder = tmp_path / "wav" / f"s{i:02}" / "1"
        folder.mkdir(parents=True)
        for utterance in "abc":
            (folder / f"{utterance}.wav").touch()
    (tmp_path / "speakers.csv").write_text("\n".join(rows))
    return tmp_path


def test_folds_test_every_speaker_once_within_its_kind(people):
    def write(name, *within):
        table = people / "speakers.csv"
        out = ("s00", "s17")
        return folds.write_folds(people, people / name, 2, out, table, within)

    parts = write("folds", "set", "gender")
    assert list(parts) == ["fold1", "fold2"]
    fold_of = {}
    for fold, paths in parts.items():
        for path in paths:
            for line in path.read_text().splitlines():
                label, *sides = line.split()
                first, second = (side.split("/")[0] for side in sides)
                assert (label == "1") == (first == second)
                assert int(first[1:]) % 2 == int(second[1:]) % 2
                for speaker in (first, second):
                    assert (path.stem == "near") == (speaker < "s09")
                    assert fold_of.setdefault(speaker, fold) == fold
    assert len(fold_of) == 16
    again = write("again", "set", "gender")
    for fold, paths in again.items():
        for one, other in zip(paths, parts[fold], strict=True):
            assert one.read_text() == other.read_text()
    (people / "speakers.csv").write_text("speaker,set\ns01,near\n")
    with pytest.raises(SystemExit, match="no row of speaker s02"):
        write("x", "set")


def test_a_run_is_not_taken_for_another_one(ran, tmp_path):
    def scripts(rate):
        ran.clear()
        climb(tmp_path, "--seeds", "7", "--only", "aam", "--", f"--lr={rate}")
        return [name.partition("_")[0] for name, *_ in ran]

    assert scripts(0.1) == ["train", "speaker"]
    assert scripts(0.1) == []
    with pytest.raises(SystemExit, match="trained with other .*--lr=0.2"):
        scripts(0.2)
    # The list of the same name has other trials: tested anew
    (tmp_path / "list.txt").write_text("1 a/1/x a/3/y\n0 a/1/x b/1/y\n")
    assert scripts(0.1) == ["speaker"]
    assert scripts(0.1) == []
    # ... and of other speakers, who may have been trained on
    (tmp_path / "list.txt").write_text("1 a/1/x a/3/y\n0 a/1/x c/1/y\n")
    with pytest.raises(SystemExit, match="without speakers"):
        scripts(0.1)


def test_a_stopped_ladder_stops_its_runs(tmp_path):
    """SIGTERM, as a queue sends it: the script is told, and has ended."""
    program = """
import sys, types
sys.path.insert(0, sys.argv[1])
import ladder
from pathlib import Path
ladder.RECIPE = Path(sys.argv[2])
args = types.SimpleNamespace(output=Path(sys.argv[2]), jobs=1)
ladder.run_all(2, lambda run: ladder.script(args, args.output / "x", "wait.py",
    Path("x.yaml")), range(3))
"""
    (tmp_path / "wait.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    pathlib.Path('told').touch(); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path('started').touch(); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, ROOT / "benchmarks", tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists() and process.poll() is None:
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert (tmp_path / "told").exists() and process.returncode == 1
    assert said.splitlines()[-1].startswith("error: stopped")


def test_the_epochs_that_an_objective_needs(tmp_path):
    """AAM ends at 4 % after 32; the other one is there half way from 8 to 16,
    on the log scale; in the resample with twice its error, never."""
    names = ["aam_8", "aam_32", "full_8", "full_16"]
    runs = ladder_report.Ladder(tmp_path, names, [1], {})
    rates = {"list": 0.01 * np.array([[9, 9], [4, 4], [8, 16], [2, 4.5]])}
    share, *bounds = ladder_report.epochs_needed(runs, rates)["full"]
    assert share == pytest.approx((8 * 16) ** 0.5 / 32)
    assert bounds == [np.inf, np.inf]
    rates["list"][2] = 0.03  # as early as can be told
    assert ladder_report.epochs_needed(runs, rates)["full"] == (0.25,) * 3
    runs = ladder_report.Ladder(tmp_path, ["aam", "full_8"], [1], {})
    assert ladder_report.epochs_needed(runs, rates) == {}


def test_the_folds_encoders_are_tested_on_the_lists(ran, people):
    options = "--folds 2 --only-folds fold2 --test-folds --seeds 1 --only aam"
    climb(people, *options.split())
    train, test = (options for _, _, options in ran)
    run = people / "out" / "aam" / "1" / "fold2"
    path = people / "list.txt"
    assert train[-1].endswith(f"folds/fold2/all.txt, {path}]")
    assert test[0] == f"--output_folder={run / 'test'}"
    assert test[-1] == f"--verification_file=[{path}]"
    parts = {"fold2": [path]}
    runs = ladder_report.Ladder(people / "out", ["aam"], [1], parts, "test")
    assert runs.results == people / "out" / "test"
    file = runs.score_file("aam", 1, "fold2", path)
    assert file == run / "test" / "scores.txt"


def test_wrong_labels_and_whom_another_run_suspects(ran, tmp_path, monkeypatch):
    noisy = lambda _, share, seed: [f"--noisy={share} {seed}"]  # noqa: E731
    monkeypatch.setattr(ladder, "mislabelled_training", noisy)
    variants = tmp_path / "variants.yaml"
    variants.write_text("better: {without: plain}\nplain: {lr: 0.1}\n")
    options = "--train-only", "--mislabelled", "0.3", f"--variants={variants}"
    climb(tmp_path, "--seeds", "7", "8", *options)
    out = tmp_path / "out"
    names = [folder.relative_to(out).parts[0] for _, folder, _ in ran]
    assert names == ["plain", "plain", "better", "better"]
    first, last = ran[0][-1], ran[-1][-1]
    assert first[-1] == "--noisy=0.3 7" and "--lr=0.1" in first
    assert f"--without={out / 'plain' / '8' / 'suspects.csv'}" in last
    assert "--without=plain" not in last
