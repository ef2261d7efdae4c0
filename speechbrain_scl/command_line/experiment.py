"""Reading an experiment: a file, and what a command line changes in it."""

import dataclasses
import difflib
import logging
import math
import os
import re

import yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain.utils.run_opts import RunOptions
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.scoring import METHODS
from speechbrain_scl.evaluation.trials import CONVENTIONS, LAYOUTS


def _number(least, most=math.inf, whole=False, above=False):
    """Whether a value is a number between bounds (``above``: not one of them),
    and how that is said; infinity and NaN are none."""
    kind = "a whole number" if whole else "a number"
    bounds = f"{'above' if above else 'at least'} {least:g}"
    if math.isfinite(most):
        bounds = f"between {least:g} and {most:g}"

    def holds(value):
        numbers = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, numbers):
            return False
        inside = least <= value <= most and math.isfinite(value)
        return inside and not (above and value in (least, most))

    return holds, f"it must be {kind}, {bounds}"


def _one_of(*choices):
    return choices.__contains__, f"choose one of {choices}"


# Seconds: the widest kernels need a few frames, and a batch has to fit memory.
_CROP = _number(0.1, 600)
_UP_TO_1000 = _number(1, 1000, whole=True)
_MODULES = {"compute_features", "mean_var_norm", "embedding_model"}
_MODULES |= {"classifier"}
_FLAG = _one_of(True, False)
_PLAIN = str | int | float | list | tuple | dict | None
# Key (key? may be null as well) -> whether a value can be used, what is wanted
_WANTED = {
    "n_mels emb_dim number_of_epochs valid_batch_size average_checkpoints "
    "plda_rank": _number(1, whole=True),
    "out_n_neurons speakers_per_batch top_n": _number(2, whole=True),
    "utterances_per_speaker": _UP_TO_1000,
    "sentence_len valid_len": _CROP,
    "lr aam_scale pack_seconds": _number(0, above=True),
    "min_duration weight_decay": _number(0),
    "max_excluded": _number(0, 1),
    "aam_margin": _number(0, math.pi),
    "p_target": _number(0, 1, above=True),
    "sample_rate": _number(1000, 400_000, whole=True),  # Hz
    "seed": _number(0, 2**32 - 1, whole=True),  # as numpy's generators take it
    "num_workers": _number(0, 256, whole=True),
    "bootstrap": _number(0, 100_000, whole=True),
    "augmentation": _one_of("folders", "synthesised", "none"),
    "trial_layout": _one_of(*LAYOUTS),
    "enrolment": _one_of(*CONVENTIONS),
    "backend": _one_of("cosine", "centred", "plda"),
    "score_norm": _one_of(*METHODS),
    "cohort_of": _one_of("speakers", "utterances"),
    "balance_at": _one_of("embedding", "parameters"),
    "skip_prep strict trials_of_other_corpus calibrate_duration": _FLAG,
    # Python takes a number for an open file, whichever that is.
    "output_folder save_folder inference_folder train_log train_annotation "
    "valid_annotation noise_annotation rir_annotation pretrain_path "
    "embeddings_file cohort data_folder_noise? data_folder_rir? pretrained? "
    "enrolment_map? calibration? metadata? spread_over? without? tensorboard?": (
        lambda value: isinstance(value, str) and value.strip("\0 "),
        "name a path or a column",
    ),
    "aam_loss objective opt_class lr_annealing epoch_counter error_stats "
    "train_logger checkpointer wav_augment? fea_augment? margin_warmup? "
    "near_speakers? label_cleaner? " + " ".join(_MODULES): (
        lambda value: not isinstance(value, _PLAIN),
        "it must be an object, such as !new:package.module.Class",
    ),
    "modules": (
        lambda value: isinstance(value, dict) and _MODULES <= set(value),
        f"it must have {', '.join(sorted(_MODULES))}",
    ),
    "crops?": (
        lambda value: isinstance(value, list | tuple)
        and len(value) == 2
        and _UP_TO_1000[0](value[0])
        and _CROP[0](value[1]),
        "[how many, seconds], such as [5, 3.0]",
    ),
}
_WANTED = {key: kind for keys, kind in _WANTED.items() for key in keys.split()}
_OR_NULL = {key[:-1] for key in _WANTED if key.endswith("?")}
_WANTED = {key.rstrip("?"): kind for key, kind in _WANTED.items()}

# What SpeechBrain and torch say of themselves at every start: of each of these
# loggers, the messages with these words.
_NOISE = {
    "speechbrain.utils.train_logger": "torchvision is not available",
    "speechbrain.utils.quirks": " quirks ",
    # The epoch's line has the rate; a schedule changes it at every batch.
    "speechbrain.nnet.schedulers": "Changing lr",
    "torch.utils.cpp_extension": "CUDA_HOME",
}


def read_experiment(arguments, default_file=None):
    """Reads the hyperparameter file that a command line names, ``[FILE.yaml]
    [--key=value ...]``: SpeechBrain's run options, and overrides of the file's
    keys.

    Returns what HyperPyYAML made of the file, the run options, the file, and
    the overrides as YAML. A missing file, a key that the file lacks, or a value
    that cannot be used is refused.
    """
    for name in _NOISE:
        logging.getLogger(name).addFilter(_helps)
    arguments = list(arguments)
    if default_file and (not arguments or arguments[0].startswith("-")):
        arguments.insert(0, default_file)
    hparams_file, run_opts, overrides = _parsed(arguments)
    if not os.path.isfile(hparams_file):
        raise UserError(f"{hparams_file}: there is no such file")
    given = _check_overrides(hparams_file, overrides)
    try:
        with open(hparams_file, encoding="utf-8") as file:
            hparams = load_hyperpyyaml(file, overrides)
    except Exception as error:
        # Whatever the parsers or the constructors it names raise, the file or
        # an override is at fault.
        _check_values(given, hparams_file)
        raise UserError(f"{hparams_file}: {error}") from error
    _check_values(hparams, hparams_file)
    return hparams, run_opts, hparams_file, overrides


def _helps(record):
    noise = _NOISE[record.name] in record.getMessage()
    return record.levelno >= logging.ERROR or not noise


def _parsed(arguments):
    """As SpeechBrain reads them, with three differences: the first "=" alone
    separates, of an option that is given twice the last one counts, and a word
    that is neither an option nor the value of one is refused."""
    parser = RunOptions._create_parser()
    parser.allow_abbrev = False
    overrides, waits = {}, None
    for word in parser.parse_known_args(arguments)[1]:
        name, given, value = word.partition("=")
        if word.startswith("--"):
            overrides[name] = value
            waits = None if given else name
        elif waits:
            overrides[waits], waits = word, None
        else:
            raise UserError(
                f"{word}: not an option, nor the value of one; options are "
                "given as --key=value"
            )
    lines = [f"{name[2:]}: {value}" for name, value in overrides.items()]
    file, run_opts, _ = RunOptions.from_command_line_args(arguments)
    return file, run_opts, "\n".join(lines)


def _check_overrides(hparams_file, overrides):
    """Every override names a key of the file. Returns key -> value of those
    that are numbers or words."""
    with open(hparams_file, encoding="utf-8") as file:
        keys = _entries(file.read(), hparams_file)
    given = _entries(overrides, "the command line")
    for key in given:
        if key not in keys:
            options = [field.name for field in dataclasses.fields(RunOptions)]
            near = difflib.get_close_matches(key, [*keys, *options])
            meant = f"did you mean --{' or --'.join(near)}?"
            raise UserError(
                f"--{key}: neither a key of {hparams_file} nor an option of "
                f"SpeechBrain; {meant if near else 'no name is like it'}"
            )
    for event in yaml.parse(overrides):
        tag = getattr(event, "tag", None) or ""
        if isinstance(event, yaml.MappingStartEvent) and tag.startswith("!"):
            raise UserError(
                f"{tag} {{...}}: HyperPyYAML would give these arguments "
                "to the object that is there; name the class alone, give its "
                "arguments as a list, or change the file"
            )
    values = {}
    for key, node in given.items():
        if isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:"):
            value = values[key] = yaml.SafeLoader("").construct_object(node)
            if re.search("<.+>", str(value)):
                raise UserError(
                    f"--{key}={value}: HyperPyYAML takes <...> for a reference "
                    "to another key; rename the path, or make a link to it"
                )
    return values


def _entries(text, source):
    """Key -> node of a HyperPyYAML mapping, without making its objects."""
    try:
        node = yaml.compose(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{source}: not a list of `key: value`: {text!r}")
    return {key.value: value for key, value in node.value}


def _check_values(hparams, source):
    """Refuses, before any work, values that no experiment can use."""
    for key, value in hparams.items():
        if key in _WANTED and not (value is None and key in _OR_NULL):
            holds, wanted = _WANTED[key]
            if not holds(value):
                raise UserError(f"{source}: {key}={value!r}: {wanted}")
