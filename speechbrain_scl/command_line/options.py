"""What the values of an experiment may be, checked before any work."""

import math

from speechbrain_scl.errors import UserError
from speechbrain_scl.values import Range, is_text

_FROM_1 = Range(1, whole=True)
_POSITIVE = Range(0, open=True)
# Seconds: the widest kernels need a few frames, and a batch has to fit memory.
_CROP = Range(0.1, 600)

_RANGES = {
    "seed": Range(0, 2**32 - 1, whole=True),  # as numpy's generators take it
    "sample_rate": Range(1000, 400_000, whole=True),  # Hz
    "n_mels": _FROM_1,
    "emb_dim": _FROM_1,
    # Training
    "min_duration": Range(0),
    "max_excluded": Range(0, 1),
    "out_n_neurons": Range(2, whole=True),
    "number_of_epochs": _FROM_1,
    "speakers_per_batch": Range(2, whole=True),
    "utterances_per_speaker": Range(1, 1000, whole=True),
    "sentence_len": _CROP,
    "valid_len": _CROP,
    "valid_batch_size": _FROM_1,
    "num_workers": Range(0, 256, whole=True),
    "lr": _POSITIVE,
    "weight_decay": Range(0),
    "average_checkpoints": _FROM_1,
    "aam_margin": Range(0, math.pi),
    "aam_scale": _POSITIVE,
    # Verification
    "pack_seconds": _POSITIVE,
    "top_n": Range(2, whole=True),
    "plda_rank": _FROM_1,
    "bootstrap": Range(0, 100_000, whole=True),
    "p_target": Range(0, 1, open=True),
}


_TEXT = (
    "output_folder",
    "save_folder",
    "inference_folder",
    "train_log",
    "train_annotation",
    "valid_annotation",
    "noise_annotation",
    "rir_annotation",
    "pretrain_path",
    "embeddings_file",
    "cohort",
)
_TEXT_OR_NULL = (
    "data_folder_noise",
    "data_folder_rir",
    "pretrained",
    "enrolment_map",
    "calibration",
    "metadata",
)
_NAME_OR_NULL = ("spread_over",)

_OBJECTS = (
    "aam_loss",
    "objective",
    "compute_features",
    "mean_var_norm",
    "embedding_model",
    "classifier",
    "opt_class",
    "lr_annealing",
    "epoch_counter",
    "error_stats",
    "train_logger",
    "checkpointer",
)
_CHOICES = {
    "augmentation": ("folders", "synthesised", "none"),
    "balance_at": ("embedding", "parameters"),
    **dict.fromkeys(
        ("skip_prep", "strict", "trials_of_other_corpus"), (True, False)
    ),
}
_MODULES = {
    "compute_features",
    "mean_var_norm",
    "embedding_model",
    "classifier",
}
_OBJECTS_OR_NULL = (
    "wav_augment",
    "fea_augment",
    "margin_warmup",
)
_PLAIN = str | int | float | list | tuple | dict


def check_values(hparams, source):
    """Refuses values that no experiment can use.

    Arguments
    ---------
    hparams : dict
        The experiment; keys that it lacks are not missed.
    source : str
        Its file, for the error.

    Raises
    ------
    UserError
        With the file, the key, its value and what it may be.

    Example
    -------
    >>> check_values({"lr": 0.001}, "ecapa.yaml")
    >>> check_values({"lr": -1}, "ecapa.yaml")
    Traceback (most recent call last):
    speechbrain_scl.errors.UserError: ecapa.yaml: lr=-1: it must be a number, above 0
    """
    for key, accepted in _RANGES.items():
        if key in hparams and hparams[key] not in accepted:
            raise UserError(
                f"{source}: {key}={hparams[key]!r}: it must be {accepted}"
            )
    for key in (*_TEXT, *_TEXT_OR_NULL):
        value = hparams.get(key)
        if key not in hparams or (value is None and key in _TEXT_OR_NULL):
            continue
        # Python takes a number for an open file, whichever that is.
        if not is_text(value):
            raise UserError(f"{source}: {key}={value!r}: name a path")
    for key in _NAME_OR_NULL:
        if hparams.get(key) is not None and not is_text(hparams[key]):
            raise UserError(
                f"{source}: {key}={hparams[key]!r}: name a column, or null"
            )
    for key, choices in _CHOICES.items():
        if key in hparams and hparams[key] not in choices:
            raise UserError(
                f"{source}: {key}={hparams[key]!r}: choose one of {choices}"
            )
    modules = hparams.get("modules", dict.fromkeys(_MODULES))
    if not isinstance(modules, dict) or _MODULES - set(modules):
        raise UserError(
            f"{source}: modules: it must name {', '.join(sorted(_MODULES))}"
        )
    for key in _OBJECTS:
        if key in hparams:
            _check_object(key, hparams[key], source, "")
    for key in _OBJECTS_OR_NULL:
        if hparams.get(key) is not None:
            _check_object(key, hparams[key], source, ", or null")


def _check_object(key, value, source, otherwise):
    if value is None or isinstance(value, _PLAIN):
        raise UserError(
            f"{source}: {key}={value!r}: it must be an object, such as "
            f"!new:package.module.Class{otherwise}"
        )
