"""The ladder's table, from runs that are already there."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import folds  # noqa: E402
import ladder  # noqa: E402
import ladder_report  # noqa: E402

from speechbrain_scl.attention import ClassAwareAttention  # noqa: E402
from speechbrain_scl.balancing import (  # noqa: E402
    FixedBalancer,
    MinNormBalancer,
)
from speechbrain_scl.command_line.experiment import (  # noqa: E402
    read_experiment,
)


def measured(rate, cost):
    """Of what metrics.json holds, as much as a ladder reads."""
    return {"eer": rate, "min_dcf": cost, "n_trials": 900, "n_speakers": 8}


def test_the_rungs_take_the_full_objective_apart():
    rungs = ladder.read_variants(ROOT / "hparams" / "ladder.yaml", None)
    assert list(rungs) == ["aam", "supcon", "margin", "attention", "balancing"]
    objectives = {}
    for name, overrides in rungs.items():
        options = [str(ROOT / "hparams" / "ecapa_small.yaml"), "--seed=1"]
        options += ["--data_folder=x", "--verification_file=x", *overrides]
        objectives[name] = read_experiment(options)[0]["objective"]
    assert objectives["aam"].contrastive is None
    assert objectives["supcon"].contrastive.margin == 0
    for name, kinds in {
        "supcon": (None, FixedBalancer),
        "margin": (None, FixedBalancer),
        "attention": (ClassAwareAttention, FixedBalancer),
        "balancing": (ClassAwareAttention, MinNormBalancer),
    }.items():
        part = objectives[name]
        assert part.contrastive.temperature == 0.07
        assert part.contrastive.margin == 0.2 * (name != "supcon")
        found = part.attention and type(part.attention), type(part.balancer)
        assert found == kinds
    with pytest.raises(SystemExit, match="no variant typo"):
        ladder.read_variants(ROOT / "hparams" / "ladder.yaml", ["typo"])


def test_finished_runs_are_reported_and_not_repeated(
    tmp_path, monkeypatch, capsys
):
    trials = tmp_path / "list.txt"
    pairs = [(a, b) for a in "stuv" for b in "stuv"]
    trials.write_text(
        "".join(f"{int(a == b)} {a}/1/x {b}/2/y\n" for a, b in pairs)
    )
    rates = {("aam", 1): 0.25, ("aam", 2): 0.35, ("balancing", 1): 0.1}
    rates[("balancing", 2)] = 0.2
    for (name, seed), rate in rates.items():
        folder = tmp_path / "out" / name / str(seed)
        (folder / "inference").mkdir(parents=True)
        (folder / "verification").mkdir()
        (folder / "train_log.txt").write_text(
            "epoch: 1 - valid EER: 3.00e-01\nepoch: 2 - valid EER: 0.125\n"
        )
        (folder / "verification" / "metrics.json").write_text(
            json.dumps({"trials": {"list": measured(rate, 0.5)}})
        )
        # aam ranks every trial wrongly, balancing rightly.
        sign = 1 if name == "balancing" else -1
        (folder / "verification" / "scores.txt").write_text(
            "".join(
                f"{int(a == b)} {a}/1/x {b}/2/y {sign * (a == b)}\n"
                for a, b in pairs
            )
        )
    monkeypatch.setattr(ladder, "script", None)  # calling it would fail
    monkeypatch.setattr(
        sys,
        "argv",
        ["ladder.py", "--data-folder", str(tmp_path), "--trials", str(trials)]
        + ["--output", str(tmp_path / "out"), "--seeds", "1", "2"]
        + ["--only", "aam", "balancing"],
    )
    ladder.main()
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


@pytest.fixture
def corpus(tmp_path):
    """18 speakers of three utterances, in two sets and two genders."""
    rows = ["speaker,set,gender"]
    for i in range(18):
        kind = "near" if i < 9 else "far"
        rows.append(f"s{i:02},{kind},{'mf'[i % 2]}")
        for utterance in "abc":
            path = tmp_path / "wav" / f"s{i:02}" / "1" / f"{utterance}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "speakers.csv").write_text("\n".join(rows))
    return tmp_path


def test_folds_test_every_speaker_once_within_its_kind(corpus):
    parts = folds.write_folds(
        corpus,
        corpus / "folds",
        2,
        kept_out={"s00", "s17"},
        metadata=corpus / "speakers.csv",
        within=["set", "gender"],
    )
    assert list(parts) == ["fold1", "fold2"]
    tested = []
    for paths in parts.values():
        speakers = set()
        for path in paths:
            for line in path.read_text().splitlines():
                label, *sides = line.split()
                first, second = (side.split("/")[0] for side in sides)
                assert (label == "1") == (first == second)
                assert int(first[1:]) % 2 == int(second[1:]) % 2
                for speaker in (first, second):
                    assert (path.stem == "near") == (speaker < "s09")
                speakers |= {first, second}
        tested += speakers
    assert len(tested) == len(set(tested)) == 16


def test_folds_are_the_same_every_time_and_name_what_is_missing(corpus):
    metadata = corpus / "speakers.csv"
    once, again = (
        {
            fold: [path.read_text() for path in paths]
            for fold, paths in folds.write_folds(
                corpus, corpus / name, 2, metadata=metadata, within=["set"]
            ).items()
        }
        for name in ("once", "again")
    )
    assert once == again and len(once["fold1"]) == 2
    metadata.write_text("speaker,set\ns00,near\n")
    with pytest.raises(SystemExit, match="no row of speaker s01"):
        folds.write_folds(
            corpus, corpus / "x", 2, metadata=metadata, within=["set"]
        )


def test_the_overall_ratio_is_paired_over_folds_seeds_and_lists(tmp_path):
    """Two systems whose scores are equal but for one fold of one list."""
    parts = {}
    rng = np.random.default_rng(0)
    for fold in ("fold1", "fold2"):
        for name in ("near", "far"):
            speakers = [f"{fold}{name}{i}" for i in range(8)]
            pairs = [(a, b) for a in speakers for b in speakers]
            path = tmp_path / "folds" / fold / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "".join(f"{int(a == b)} {a}/1/x {b}/1/y\n" for a, b in pairs)
            )
            parts.setdefault(fold, []).append(path)
            noise = rng.normal(size=len(pairs))
            for variant in ("aam", "full"):
                for seed in (1, 2):
                    better = (variant, fold, name) == ("full", "fold1", "far")
                    shift = 4.0 if better else 0.5
                    folder = tmp_path / variant / str(seed) / fold
                    folder = folder / "verification"
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / f"scores-{name}.txt").write_text(
                        "".join(
                            f"{int(a == b)} {a}/1/x {b}/1/y "
                            f"{shift * (a == b) + noise[i]}\n"
                            for i, (a, b) in enumerate(pairs)
                        )
                    )
                    metrics = folder / "metrics.json"
                    found = {"trials": {}}
                    if metrics.is_file():
                        found = json.loads(metrics.read_text())
                    rate = 0.05 if better else 0.2
                    found["trials"][name] = measured(rate, 0.9)
                    metrics.write_text(json.dumps(found))
                    (folder.parent / "train_log.txt").write_text(
                        "epoch: 1 - valid EER: 3.00e-01\n"
                    )
    runs = ladder_report.Ladder(tmp_path, ["aam", "full"], [1, 2], parts)
    figures = {
        name: [
            ladder_report.read_figures(runs, name, seed, True)
            for seed in runs.seeds
        ]
        for name in runs.variants
    }
    rates = ladder_report.rates_of_lists(runs, figures)
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
def climb(tmp_path, monkeypatch):
    """Runs a ladder of one variant, its scripts replaced; returns which ran."""
    trials = tmp_path / "list.txt"
    trials.write_text("1 a/1/x a/2/y\n0 a/1/x b/1/y\n")

    def script(args, folder, name, hparams, *overrides):
        ran.append(name)
        (folder / "inference").mkdir(parents=True, exist_ok=True)
        if "verification" in name:
            (folder / "verification").mkdir(exist_ok=True)
            (folder / "verification" / "metrics.json").touch()

    def run(*overrides):
        command = ["ladder.py", "--data-folder", str(tmp_path), "--trials"]
        command += [str(trials), "--output", str(tmp_path / "out")]
        command += ["--seeds", "7", "--only", "aam"]
        monkeypatch.setattr(sys, "argv", [*command, "--", *overrides])
        ran.clear()
        ladder.main()
        return list(ran)

    ran = []
    monkeypatch.setattr(ladder, "script", script)
    monkeypatch.setattr(ladder, "report", lambda *_: None)
    return run


def test_a_run_is_not_taken_for_another_one(climb, tmp_path):
    train, verify = (
        "train_speaker_embeddings.py",
        "speaker_verification_cosine.py",
    )
    assert climb("--lr=0.1") == [train, verify]
    assert climb("--lr=0.1") == []
    with pytest.raises(SystemExit, match="trained with other .*--lr=0.2"):
        climb("--lr=0.2")
    # The list of the same name has other trials: tested anew
    (tmp_path / "list.txt").write_text("1 a/1/x a/3/y\n0 a/1/x b/1/y\n")
    assert climb("--lr=0.1") == [verify]
    assert climb("--lr=0.1") == []
    # ... and of other speakers, who may have been trained on
    (tmp_path / "list.txt").write_text("1 a/1/x a/3/y\n0 a/1/x c/1/y\n")
    with pytest.raises(SystemExit, match="without speakers"):
        climb("--lr=0.1")


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
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            str(ROOT / "benchmarks"),
            str(tmp_path),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if (tmp_path / "started").exists():
            break
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


def test_the_folds_are_tested_on_the_lists_apart(tmp_path):
    lists = [tmp_path / "a.txt", tmp_path / "b.txt"]
    parts = {"fold1": lists, "fold2": lists}
    found = ladder_report.Ladder(tmp_path, ["aam"], [1], parts, "test")
    assert found.results == tmp_path / "test"
    assert found.score_file("aam", 1, "fold2", lists[1]) == (
        tmp_path / "aam" / "1" / "fold2" / "test" / "scores-b.txt"
    )
    assert found.columns()["a"] == [("fold1", lists[0]), ("fold2", lists[0])]
    usual = ladder_report.Ladder(tmp_path, ["aam"], [1], parts)
    assert usual.results == tmp_path


def test_wrong_labels_take_the_place_of_the_manifest(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(ladder, "script", lambda *call: calls.append(call))
    monkeypatch.setattr(
        ladder,
        "mislabelled_training",
        lambda arguments, share, seed: [f"--noisy={share} {seed}"],
    )
    trials = tmp_path / "list.txt"
    trials.write_text("1 a/1/x a/2/y\n0 a/1/x b/1/y\n")
    monkeypatch.setattr(
        sys,
        "argv",
        ["ladder.py", "--data-folder", str(tmp_path), "--trials", str(trials)]
        + ["--output", str(tmp_path / "out"), "--seeds", "7", "--train-only"]
        + ["--only", "aam", "--validation-only", "--mislabelled", "0.3"],
    )
    ladder.main()
    (call,) = calls
    assert (
        call[-1] == "--noisy=0.3 7"
        and "--objective={contrastive: null}" in call
    )


def test_a_cleaned_variant_goes_by_another_ones_suspects(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(ladder, "script", lambda *call: calls.append(call))
    trials, variants = tmp_path / "list.txt", tmp_path / "variants.yaml"
    trials.write_text("1 a/1/x a/2/y\n0 a/1/x b/1/y\n")
    variants.write_text("better: {without: plain}\nplain: {}\n")
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys,
        "argv",
        ["ladder.py", "--data-folder", str(tmp_path), "--trials", str(trials)]
        + ["--output", str(out), "--seeds", "7", "8", "--train-only"]
        + ["--variants", str(variants), "--validation-only"],
    )
    ladder.main()
    names = [call[1].relative_to(out).parts[0] for call in calls]
    assert names == ["plain", "plain", "better", "better"]
    suspects = out / "plain" / "8" / "suspects.csv"
    assert f"--without={suspects}" in calls[-1]
    assert "--without=plain" not in calls[-1]
