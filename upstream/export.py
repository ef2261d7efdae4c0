#!/usr/bin/env python3
"""Writes the recipe as a pull request against SpeechBrain.

    python upstream/export.py CHECKOUT

CHECKOUT is a checkout of SpeechBrain's develop branch, or a new folder. Losses,
balancing, sampler, schedules and metrics become modules of SpeechBrain; the
Brain stands in the training script, and the preparation of CN-Celeb is one
file, as usual there. Everything is made from this repository's sources, and
nothing that exists in the checkout is replaced: rows and a section are added
to tests/recipes/VoxCeleb.csv and to the VoxCeleb recipe's README.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from bundle import PACKAGE, bundle, rewrite

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# What becomes a module of SpeechBrain, and where
MOVED = {
    f"{PACKAGE}.{old}": f"speechbrain.{new}"
    for old, new in {
        "losses": "nnet.loss.supcon_margin",
        "_margin_contrast": "nnet.loss.margin_contrast",
        "_margin_terms": "nnet.loss.margin_terms",
        "_speaker_groups": "nnet.loss.speaker_groups",
        "memory": "nnet.loss.cross_batch_memory",
        "attention": "nnet.loss.class_aware_attention",
        "balancing": "nnet.loss.gradient_balancing",
        "training.schedules": "nnet.epoch_schedules",
        "distributed": "utils.differentiable_gather",
        "evaluation.metrics": "utils.verification_metrics",
        "samplers": "dataio.speaker_sampler",
    }.items()
}

INSTEAD = {f"{PACKAGE}.training.resilience": HERE / "resilience.py"}

# Keys of our training files that the script there does not read
DROPPED = """inference_folder min_duration check_audio max_excluded pretrained
speeds average_checkpoints n_speakers valid_speakers balance_at strict
joined_duration cnceleb1_folder cnceleb2_folder spec_augment_prob drop_frames
drop_bands fea_augment augmentation spread_over metadata preference_course
contrastive_projection""".split()

VOXCELEB = "recipes/VoxCeleb/SpeakerRec"
CNCELEB = "recipes/CNCeleb/SpeakerRec"
# SpeechBrain's VoxCeleb recipe has a train_speaker_embeddings.py of its own.
TRAINING_SCRIPTS = {
    VOXCELEB: "train_speaker_embeddings_scl.py",
    CNCELEB: "train_speaker_embeddings.py",
}
TRAINING_FILE = "hparams/train_ecapa_tdnn_scl.yaml"

PREPARE_VOXCELEB = """
    veri_file_path = os.path.join(
        hparams["save_folder"], os.path.basename(hparams["verification_file"])
    )
    if not hparams["skip_prep"]:
        download_file(hparams["verification_file"], veri_file_path)

    from voxceleb_prepare import prepare_voxceleb  # noqa

    # One row per utterance; the validation speakers are not trained on.
    run_on_main(
        prepare_voxceleb,
        kwargs={
            "data_folder": hparams["data_folder"],
            "save_folder": hparams["save_folder"],
            "verification_pairs_file": veri_file_path,
            "splits": ["train", "dev"],
            "split_ratio": hparams["split_ratio"],
            "split_speaker": True,
            "random_segment": True,
            "skip_prep": hparams["skip_prep"],
        },
    )
"""

COLUMNS = """Task Dataset Script_file Hparam_file Data_prep_file Readme_file
Result_url HF_repo test_debug_flags test_debug_checks performance""".split()

SAMPLES = "tests/samples/annotation"
TRAINING_FLAGS = (
    f"--data_folder=tests/samples/ASR/ "
    f"--train_annotation={SAMPLES}/ASR_train_plda.csv "
    f"--valid_annotation={SAMPLES}/ASR_train_plda.csv "
    f"--noise_annotation={SAMPLES}/noise_paths.csv "
    f"--rir_annotation={SAMPLES}/rir_paths.csv "
    "--number_of_epochs=2 --skip_prep=True --sentence_len=0.5 --valid_len=1.0 "
    "--speakers_per_batch=2 --out_n_neurons=2 --num_workers=0"
)
TRAINING_CHECKS = (
    "file_exists=[{script},train_log.txt,log.txt,env.log,hyperparams.yaml,"
    "save/label_encoder.txt,save/embedding_model.ckpt]"
)


def export(tree):
    """Writes the tree.

    Arguments
    ---------
    tree : Path
        A checkout of SpeechBrain, or a folder that need not exist.

    Raises
    ------
    FileExistsError
        What would be written is there.
    """
    package = ROOT / PACKAGE
    new = {}
    for old, module in MOVED.items():
        path = package / (old.removeprefix(f"{PACKAGE}.").replace(".", "/"))
        source = path.with_suffix(".py").read_text(encoding="utf-8")
        new[module.replace(".", "/") + ".py"] = rewrite(source, MOVED)

    template = (HERE / "train_speaker_embeddings.py").read_text("utf-8")
    for recipe, script in TRAINING_SCRIPTS.items():
        text = bundle(template, package, MOVED, INSTEAD)
        text = text.replace("ResilientBrain", "EpochBrain")
        text = text.replace("@SCRIPT@", script)
        text = text.replace("@YAML@", TRAINING_FILE)
        text = text.replace("\n    # @PREPARE@\n", preparation(recipe))
        if recipe == VOXCELEB:
            text = text.replace(
                "from speechbrain.utils.distributed",
                "from speechbrain.utils.data_utils import download_file\n"
                "from speechbrain.utils.distributed",
                1,
            )
        new[f"{recipe}/{script}"] = text
        new[f"{recipe}/{TRAINING_FILE}"] = training_file(recipe)
    prepare = ROOT / "recipes/CNCeleb/cnceleb_prepare.py"
    new["recipes/CNCeleb/cnceleb_prepare.py"] = bundle(
        prepare.read_text(encoding="utf-8"), package, MOVED
    )
    new[f"{CNCELEB}/speaker_verification_cosine.py"] = bundle(
        (HERE / "speaker_verification_cosine.py").read_text("utf-8"),
        package,
        MOVED,
    )
    for path in sorted((HERE / "recipes").rglob("*.*")):
        if path.is_file():
            new[str(path.relative_to(HERE))] = path.read_text("utf-8")
    new.update(fixtures())
    new["tests/recipes/CNCeleb.csv"] = rows_text(CNCELEB, header=True)

    section = new.pop(f"{VOXCELEB}/README_SCL.md")
    added = {
        f"{VOXCELEB}/README.md": section,
        "tests/recipes/VoxCeleb.csv": rows_text(
            VOXCELEB, header=not (tree / "tests/recipes/VoxCeleb.csv").exists()
        ),
    }
    write(tree, new, added)
    link = tree / CNCELEB / "cnceleb_prepare.py"
    link.symlink_to("../cnceleb_prepare.py")
    tidy(tree, [path for path in new if path.endswith(".py")])


def preparation(recipe):
    """The lines that prepare the corpus: CN-Celeb's are our script's own."""
    if recipe == VOXCELEB:
        return PREPARE_VOXCELEB
    script = ROOT / recipe / "train_speaker_embeddings.py"
    found = re.search(
        r"(?s)\n    from cnceleb_prepare .*?\n    \)\n",
        script.read_text("utf-8"),
    )
    return found[0]


def training_file(recipe):
    """Our training file, with SpeechBrain's modules and the script's keys."""
    text = (ROOT / recipe / "hparams" / "ecapa_scl.yaml").read_text("utf-8")
    dropped = set(DROPPED)
    if recipe == CNCELEB:
        dropped -= set(re.findall(r'hparams\["(\w+)"\]', preparation(recipe)))
    kept = [lines for key, lines in blocks_of(text) if key not in dropped]
    text = re.sub(r"\n{3,}", "\n\n", "".join(kept))
    for old, new in (
        # Speakers that are held out leave their classes unused.
        (r"(?m)^out_n_neurons: .*$", f"out_n_neurons: {classes(recipe)}"),
        (r"(?m)^data_folder: \S+", "data_folder: !PLACEHOLDER"),
        (
            r"(?m)^skip_prep: False\n",
            "skip_prep: False\n"
            + (
                "split_ratio: [97, 3]  # of the speakers\n"
                * (recipe == VOXCELEB)
            ),
        ),
        (r"/valid\.csv", "/dev.csv" if recipe == VOXCELEB else "/valid.csv"),
        (
            rf"!name:{PACKAGE}\.corpora\.augmentation\.\w+\n"
            r"    folder: (.*)\n    csv_file: (.*)\n    url: (.*)\n",
            "!name:speechbrain.augment.preparation.prepare_dataset_from_URL\n"
            r"    URL: \3\n    dest_folder: \1\n    ext: wav\n    csv_file: \2\n",
        ),
        (
            rf"{PACKAGE}\.training\.checkpoints\.CompleteCheckpointer",
            "speechbrain.utils.checkpoints.Checkpointer",
        ),
        (
            rf"!new:{PACKAGE}\.training\.epoch_line\.EpochLogger\n"
            r"(    save_file: .*\n)    number_of_epochs: .*\n    others: .*\n",
            r"!new:speechbrain.utils.train_logger.FileTrainLogger\n\1",
        ),
        (r"(?m)^# Noise and room impulse responses: .*\n# archive .*\n", ""),
    ):
        text = re.sub(old, new, text)
    return rewrite(text, MOVED)


def blocks_of(text):
    """(key, lines) of a yaml, each key with the comment right above it."""
    blocks = [("", "")]
    for line in text.splitlines(keepends=True):
        name, lines = blocks[-1]
        key = re.match(r"([A-Za-z_]+):", line)
        comment = line.startswith("#")
        if name == "#" and (key or comment):
            blocks[-1] = (key[1] if key else name, lines + line)
        elif key or comment or not line.strip():
            blocks.append((key[1] if key else line[:1].strip(), line))
        else:
            blocks[-1] = (name, lines + line)
    return blocks


def classes(recipe):
    """The number of speakers, as our own file says."""
    path = ROOT / recipe / "hparams" / "ecapa_scl.yaml"
    return re.search(r"(?m)^n_speakers: (\d+)", path.read_text("utf-8"))[1]


def fixtures():
    """Lists of SpeechBrain's own samples, for the rows' debug flags."""
    rooms = "".join(
        f"rir{i}, 1.0, tests/samples/RIRs/rir{i}.wav, wav,\n" for i in (1, 2)
    )
    voices = ("spk1_snt1", "spk1_snt2", "spk2_snt1", "spk2_snt2")
    return {
        f"{SAMPLES}/rir_paths.csv": "ID, duration, wav, wav_format, wav_opts\n"
        + rooms,
        f"{SAMPLES}/cnceleb_enroll.map": "spk1-enroll spk1_snt3.wav "
        "spk1_snt4.wav\nspk2-enroll spk2_snt3.wav\n",
        f"{SAMPLES}/cnceleb_trials.lst": "".join(
            f"{model}-enroll {voice}.wav {int(voice.startswith(model))}\n"
            for model in ("spk1", "spk2")
            for voice in voices
        ),
    }


def rows_text(recipe, header):
    """The recipe's rows of tests/recipes."""
    corpus = recipe.split("/")[1]
    script = TRAINING_SCRIPTS[recipe]
    common = {
        "Task": "Speaker_recognition",
        "Dataset": corpus,
        "Data_prep_file": f"{recipe}/{corpus.lower()}_prepare.py",
        "Readme_file": f"{recipe}/README.md",
    }
    rows = [
        {
            **common,
            "Script_file": f"{recipe}/{script}",
            "Hparam_file": f"{recipe}/{TRAINING_FILE}",
            "test_debug_flags": TRAINING_FLAGS,
            "test_debug_checks": TRAINING_CHECKS.format(script=script),
        }
    ]
    if recipe == CNCELEB:
        rows.append(
            {
                **common,
                "Script_file": f"{recipe}/speaker_verification_cosine.py",
                "Hparam_file": f"{recipe}/hparams/verification_ecapa_scl.yaml",
                "test_debug_flags": "--data_folder=tests/samples/ASR "
                f"--verification_file={SAMPLES}/cnceleb_trials.lst "
                f"--enrolment_map={SAMPLES}/cnceleb_enroll.map "
                "--pretrain_path=tests/tmp/CNCeleb_row_02/save",
                "test_debug_checks": "file_exists=[scores.txt,log.txt,env.log,"
                "hyperparams.yaml]",
            }
        )
    lines = [",".join(COLUMNS)] * header
    for row in rows:
        cells = (row.get(column, "") for column in COLUMNS)
        lines.append(",".join(f'"{c}"' if "," in c else c for c in cells))
    return "\n".join(lines) + "\n"


def write(tree, new, added):
    """New files, and text at the end of others."""
    there = [path for path in new if (tree / path).exists()]
    if there:
        raise FileExistsError(f"{tree} has {', '.join(there)} already")
    for path, text in {**new, **added}.items():
        path = tree / path
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text("utf-8") if path.exists() else ""
        if before and not before.endswith("\n"):
            before += "\n"
        path.write_text(before + text, encoding="utf-8")


def tidy(tree, paths):
    """Imports sorted and lines broken by SpeechBrain's rules."""
    settings = HERE.parent / "pyproject.toml"
    for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", settings]
            + ["--target-version", "py38"]
            + [tree / path for path in paths],
            check=True,
        )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tree", type=Path, metavar="CHECKOUT")
    args = parser.parse_args()
    try:
        export(args.tree)
    except FileExistsError as error:
        sys.exit(f"error: {error}")
    print(f"{args.tree}: written; CONTRIBUTING.md says how to check it")


if __name__ == "__main__":
    main()
