"""Reading an experiment: a file, and what a command line changes in it."""

import dataclasses
import difflib
import logging
import math
import os
import re
from typing import NamedTuple

import yaml
from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain.utils.run_opts import RunOptions
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.scoring import METHODS
from speechbrain_scl.evaluation.trials import CONVENTIONS, LAYOUTS


class Range(NamedTuple):
    """The numbers that a key may be."""

    least: float
    most: float = math.inf
    whole: bool = False
    above: bool = False  # the bounds themselves are not in it

    def __str__(self):
        said = "a whole number, " if self.whole else "a number, "
        if math.isfinite(self.most):
            return f"{said}between {self.least:g} and {self.most:g}"
        return f"{said}{'above' if self.above else 'at least'} {self.least:g}"

    def holds(self, value):
        """Whether a value is one of them; infinity and NaN are none."""
        kinds = int if self.whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        inside = self.least <= value <= self.most and math.isfinite(value)
        return inside and not (self.above and value in self[:2])


# Seconds: the widest kernels need a few frames, and a batch has to fit memory.
_CROP = Range(0.1, 600)
_UP_TO_1000 = Range(1, 1000, whole=True)
_FLAG = (True, False)
_MODULES = {"compute_features", "mean_var_norm", "embedding_model"}
_MODULES |= {"classifier"}
_WANTED = {
    "n_mels emb_dim number_of_epochs valid_batch_size average_checkpoints "
    "plda_rank": Range(1, whole=True),
    "out_n_neurons speakers_per_batch top_n": Range(2, whole=True),
    "utterances_per_speaker": _UP_TO_1000,
    "sentence_len valid_len": _CROP,
    "lr aam_scale pack_seconds": Range(0, above=True),
    "min_duration weight_decay": Range(0),
    "max_excluded": Range(0, 1),
    "aam_margin": Range(0, math.pi),
    "p_target": Range(0, 1, above=True),
    "sample_rate": Range(1000, 400_000, whole=True),  # Hz
    "seed": Range(0, 2**32 - 1, whole=True),  # as numpy's generators take it
    "num_workers": Range(0, 256, whole=True),
    "bootstrap": Range(0, 100_000, whole=True),
    "augmentation": ("folders", "synthesised", "none"),
    "trial_layout": LAYOUTS,
    "enrolment": CONVENTIONS,
    "backend": ("cosine", "centred", "plda"),
    "score_norm": METHODS,
    "cohort_of": ("speakers", "utterances"),
    "balance_at": ("embedding", "parameters"),
    "skip_prep strict trials_of_other_corpus calibrate_duration": _FLAG,
    # Python takes a number for an open file, whichever that is.
    "output_folder save_folder inference_folder train_log train_annotation "
    "valid_annotation noise_annotation rir_annotation pretrain_path "
    "embeddings_file cohort data_folder_noise data_folder_rir pretrained "
    "enrolment_map calibration metadata spread_over without tensorboard": str,
    "aam_loss objective opt_class lr_annealing epoch_counter error_stats "
    "train_logger checkpointer wav_augment fea_augment margin_warmup "
    "near_speakers label_cleaner " + " ".join(_MODULES): object,
}
_WANTED = {key: kind for keys, kind in _WANTED.items() for key in keys.split()}
_OR_NULL = set(
    "data_folder_noise data_folder_rir pretrained enrolment_map calibration "
    "metadata spread_over wav_augment fea_augment margin_warmup crops "
    "near_speakers label_cleaner without tensorboard".split()
)

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

    Example
    -------
    >>> path = getfixture("tmp_path") / "tiny.yaml"
    >>> _ = path.write_text("list_url: none\\nscale: 30")
    >>> arguments = [str(path), "--list_url=https://a.b/?list=1"]
    >>> read_experiment(arguments)[0]
    {'list_url': 'https://a.b/?list=1', 'scale': 30}
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
    hidden, options, values = "\x00", {"": arguments[:1]}, 0
    for argument in arguments[1:]:
        name, given, value = argument.partition("=")
        if argument.startswith("--"):
            default = getattr(RunOptions, name[2:], "")
            many = name in ("--jit_module_keys", "--compile_module_keys")
            values = len(arguments) if many else int(default is not False)
            values = 0 if given else values
            options.pop(name, None)
            options[name] = [name + given + value.replace("=", hidden)]
        elif values:
            values -= 1
            options[[*options][-1]].append(argument.replace("=", hidden))
        else:
            raise UserError(
                f"{argument}: not an option, nor the value of one; options "
                "are given as --key=value"
            )
    file, run_opts, overrides = sb.parse_arguments(sum(options.values(), []))
    return file, run_opts, overrides.replace(hidden, "=")


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
    plain = yaml.SafeLoader("").construct_object
    values = {
        key: plain(node)
        for key, node in given.items()
        if isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:")
    }
    for key, value in values.items():
        if re.search("<.+>", str(value)):
            raise UserError(
                f"--{key}={value}: HyperPyYAML takes <...> for a reference to "
                "another key; rename the path, or make a link to it"
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
        wanted = _wanted(key, value)
        if wanted:
            raise UserError(f"{source}: {key}={value!r}: {wanted}")


def _wanted(key, value):
    """What a value that cannot be used should be; else None."""
    kind, good, said = _WANTED.get(key), True, None
    if value is None and key in _OR_NULL:
        pass
    elif isinstance(kind, Range):
        good, said = kind.holds(value), f"it must be {kind}"
    elif isinstance(kind, tuple):
        good, said = value in kind, f"choose one of {kind}"
    elif kind is str:
        good = isinstance(value, str) and value.strip("\0 ")
        said = "name a path or a column"
    elif kind is object:
        plain = str | int | float | list | tuple | dict | None
        good = not isinstance(value, plain)
        said = "it must be an object, such as !new:package.module.Class"
    elif key == "modules":
        missing = _MODULES - set(value if isinstance(value, dict) else ())
        good, said = not missing, f"it lacks {', '.join(sorted(missing))}"
    elif key == "crops":
        pair = isinstance(value, list | tuple) and len(value) == 2
        good = pair and _UP_TO_1000.holds(value[0]) and _CROP.holds(value[1])
        said = "[how many, seconds], such as [5, 3.0]"
    return None if good else said
