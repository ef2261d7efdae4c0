#!/usr/bin/env python3
"""Trains and tests variants of the objective on one corpus, over seeds.

    python benchmarks/ladder.py --data-folder CORPUS --trials LIST [LIST ...]
        --output results/ladder --seeds 1 2 3 [-- TRAINING OVERRIDES]

or, to choose between variants without a look at any test list, by
cross-validation over the corpus's speakers (those of --trials stay out):

    python benchmarks/ladder.py --data-folder CORPUS --folds 3
        --metadata CORPUS/speakers.csv --within set gender ...

and once they are chosen, the same with --test-folds: the folds' encoders on
the lists of --trials (results in OUTPUT/test).

Each run is the VoxCeleb recipe's own two scripts with overrides. A finished
run is not repeated and an interrupted training goes on from its last
checkpoint, so the same command resumes. The output folder then holds a table
(results.md, results.csv) and one page about all runs (comparison.html).
"""

import argparse
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import yaml
from folds import write_folds
from ladder_report import Ladder, report
from measure import ROOT
from mislabel import mislabelled_training

from speechbrain_scl.evaluation.trials import read_trials
from speechbrain_scl.files import write_json

RECIPE = ROOT / "recipes" / "VoxCeleb" / "SpeakerRec"
TRAIN, VERIFY = "train_speaker_embeddings.py", "speaker_verification_cosine.py"
STARTED, STOPPED = set(), threading.Event()  # the recipe's scripts


def main():
    """Runs what is missing and reports everything."""
    args = parse_arguments()
    variants = read_variants(args.variants, args.only)
    parts = read_parts(args)
    runs = [
        (name, seed, part)
        for seed in args.seeds
        for part in parts
        for name in variants
    ]
    # Those that leave out what another run suspects come after all others.
    second = [run for run in runs if cleaned(variants[run[0]])]
    for now in ([run for run in runs if run not in second], second):
        run_all(
            args.jobs, lambda run: run_one(args, variants, parts, *run), now
        )
    if not args.train_only:
        tested = dict.fromkeys(parts, args.trials) if args.test_folds else parts
        names = list(variants)
        report(Ladder(args.output, names, args.seeds, tested, args.tests))


def run_all(jobs, function, runs):
    """Several at a time; who stops the ladder stops what it has started."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(function, runs))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            STOPPED.set()
            for process in list(STARTED):
                process.terminate()  # a training writes its checkpoint
            sys.exit("error: stopped; the same command goes on from here")
        finally:
            signal.signal(signal.SIGTERM, before)


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    hparams = ROOT / "hparams"
    add("--data-folder", type=Path, required=True, help="it holds wav/")
    add("--trials", type=Path, nargs="+", default=[], help="test lists")
    add("--folds", type=int, help="cross-validation; no list is tested")
    add("--only-folds", nargs="+", help="such as fold1, to screen variants")
    add("--test-folds", action="store_true", help="test them on --trials")
    add("--metadata", type=Path, help="a CSV file about the speakers")
    add("--within", nargs="+", default=[], help="columns equal in each trial")
    add("--output", type=Path, default=Path("results/ladder"))
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--variants", type=Path, default=hparams / "ladder.yaml")
    add("--only", nargs="+", help="which variants, in the order to report")
    add("--train", type=Path, default=hparams / "ecapa_small.yaml")
    add("--verify", type=Path, default=hparams / "verification_small.yaml")
    add("--mislabelled", type=float, default=0.0, help="share of utterances")
    add("--train-only", action="store_true", help="test and report nothing")
    add("--jobs", type=int, default=1, help="runs at a time, a core each")
    add("overrides", nargs="*", help="of the training, after --")
    args = parser.parse_args()
    if not args.trials and (args.test_folds or not args.folds):
        parser.error("--trials is needed")
    if not 0 <= args.mislabelled < 1:
        parser.error(f"--mislabelled {args.mislabelled}: from 0 to below 1")
    if bool(args.metadata) != bool(args.within):
        parser.error("--metadata and --within belong together")
    args.tests = "test" if args.test_folds else "verification"
    args.output = args.output.resolve()
    args.data_folder = args.data_folder.resolve()
    args.trials = [path.resolve() for path in args.trials]
    return args


def read_variants(path, only):
    """Name -> training overrides, as the YAML mapping spells them."""
    text = path.read_text(encoding="utf-8")
    variants = {
        name.value: [
            f"--{key.value}="
            + text[value.start_mark.index : value.end_mark.index].strip()
            for key, value in overrides.value
        ]
        for name, overrides in yaml.compose(text).value
    }
    return chosen(variants, only, f"{path}: variants")


def chosen(known, only, what):
    """Those that the command line names, in its order, or all."""
    if unknown := [name for name in only or [] if name not in known]:
        names = f"{', '.join(unknown)}; there are {', '.join(known)}"
        sys.exit(f"error: {what}: no {names}")
    return {name: known[name] for name in only or known}


def read_parts(args):
    """Part -> its trial lists: the folds, or one part without a name."""
    if not args.folds:
        return {"": args.trials}
    folds = write_folds(
        args.data_folder,
        args.output / "folds",
        args.folds,
        speakers_of(args.trials),
        args.metadata,
        args.within,
    )
    return chosen(folds, args.only_folds, "--only-folds")


def speakers_of(lists):
    """All that are on either side of these trial lists."""
    found = set()
    for path in lists:
        trials = read_trials(str(path))
        names = [*trials.enrol_ids, *trials.test_ids]
        found.update(name.split("/")[0] for name in names)
    return found


def run_one(args, variants, parts, name, seed, part):
    """Trains and tests one variant with one seed, unless that is done."""
    folder = args.output / name / str(seed) / part
    lists = args.trials if args.test_folds else parts[part]
    # Of a fold, the test lists' speakers stay out of the training as well.
    listed = dict.fromkeys([*parts[part], *args.trials])
    data = f"--data_folder={args.data_folder}"
    overrides = [f"--seed={seed}", data, *args.overrides, *variants[name]]
    yaml_file = str(args.train.resolve())
    asked = [
        yaml_file,
        *overrides,
        f"--mislabelled={args.mislabelled}",
        f"without speakers {digest(sorted(speakers_of(listed)))}",
    ]
    if not is_trained(folder, asked):
        if source := cleaned(variants[name]):
            suspects = args.output / source / str(seed) / part / "suspects.csv"
            overrides.remove(f"--without={source}")
            overrides.append(f"--without={suspects}")
        overrides.append(f"--output_folder={folder}")
        overrides.append(option("verification_file", listed))
        if args.mislabelled:
            overrides += mislabelled_training(
                [yaml_file, *overrides], args.mislabelled, seed
            )
        script(args, folder, TRAIN, args.train, *overrides)
    if not args.train_only:
        asked = [str(args.verify.resolve()), str(args.data_folder)]
        asked += [f"{x.name} {digest(x.read_text('utf-8'))}" for x in lists]
        options = data, option("verification_file", lists)
        test(args, folder, folder / args.tests, args.verify, asked, *options)


def test(args, folder, tests, hparams, asked, *options, **how):
    """Tests a run, unless figures are there of what is asked for now; else the
    record of what they were asked for goes, and is written anew."""
    record = tests / "ladder.json"
    if not (tests / "metrics.json").is_file() or differs(record, asked):
        record.unlink(missing_ok=True)
        model = f"--pretrain_path={folder / 'inference'}"
        options = f"--output_folder={tests}", model, *options
        script(args, folder, VERIFY, hparams, *options, **how)
        differs(record, asked)


def option(name, paths):
    """As the recipes take lists."""
    return f"--{name}=[{', '.join(map(str, paths))}]"


def is_trained(folder, asked):
    """Whether a run is done; it is refused if its options were others."""
    if changed := differs(folder / "ladder.json", asked):
        sys.exit(
            f"error: {folder} was trained with other options "
            f"({', '.join(changed)}): choose another --output, or remove it"
        )
    return (folder / "inference").is_dir()


def cleaned(overrides):
    """Whose suspects a variant leaves out (``without: VARIANT``), if any's."""
    named = [o for o in overrides if o.startswith("--without=")]
    return named[-1].removeprefix("--without=") if named else None


def digest(content):
    """Short, of what JSON can say."""
    return sha256(json.dumps(content).encode()).hexdigest()[:16]


def differs(path, asked):
    """What is asked for now or was then, not both; written the first time."""
    if not path.is_file():
        write_json(path, {"asked": asked})
        return []
    before = json.loads(path.read_text(encoding="utf-8"))["asked"]
    return sorted(set(asked) ^ set(before))


def script(args, folder, name, hparams, *overrides, recipe=None, processes=1):
    """Runs one of the recipe's scripts; several at a time write to files."""
    print(f"{folder.relative_to(args.output)}: {name}", flush=True)
    command = [sys.executable, name, str(hparams.resolve()), *overrides]
    if processes > 1:
        workers = ["--standalone", f"--nproc_per_node={processes}"]
        command[1:1] = ["-m", "torch.distributed.run", *workers]
    environment, output = dict(os.environ), None
    if args.jobs > 1:
        environment["OMP_NUM_THREADS"] = "1"
        folder.mkdir(parents=True, exist_ok=True)
        output = open(folder / f"{Path(name).stem}.out", "a")
    said = {"stdout": output, "stderr": output and subprocess.STDOUT}
    with subprocess.Popen(
        command, cwd=recipe or RECIPE, env=environment, **said
    ) as process:
        STARTED.add(process)
        if STOPPED.is_set():  # meanwhile
            process.terminate()
        failed = process.wait()
        STARTED.discard(process)
    if failed:
        hint = f"; see {output.name}" if output else ""
        raise SystemExit(f"error: {name} failed for {folder}{hint}")


if __name__ == "__main__":
    main()
