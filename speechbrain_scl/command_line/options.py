"""What the values of an experiment may be, checked before any work."""

import dataclasses
import math

from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.enrolment import CONVENTIONS
from speechbrain_scl.evaluation.scoring import METHODS
from speechbrain_scl.evaluation.trials import LAYOUTS


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that an option may be.

    Example
    -------
    >>> print(Range(least=2, whole=True))
    a whole number, at least 2
    >>> 0.5 in Range(0, 1), True in Range(0, 1), "0.5" in Range(0, 1)
    (True, False, False)
    """

    least: float
    most: float = math.inf
    whole: bool = False
    open: bool = False

    def __contains__(self, value):
        kinds = int if self.whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        if self.open and value in (self.least, self.most):
            return False
        # NaN compares as false, and nothing here can use infinity.
        return self.least <= value <= self.most and math.isfinite(value)

    def __str__(self):
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.most):
            place = f"between {self.least:g} and {self.most:g}"
        else:
            place = f"{'above' if self.open else 'at least'} {self.least:g}"
        return f"{kind}, {place}"


_FROM_1 = Range(1, whole=True)
_POSITIVE = Range(0, open=True)
# Seconds: the widest kernels need a few frames, and a batch has to fit memory.
_CROP = Range(0.1, 600)
_CROPS = Range(1, 1000, whole=True)

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
_CHOICES = {
    "augmentation": ("folders", "synthesised", "none"),
    "trial_layout": LAYOUTS,
    "enrolment": CONVENTIONS,
    "backend": ("cosine", "centred", "plda"),
    "score_norm": METHODS,
    "cohort_of": ("speakers", "utterances"),
    "balance_at": ("embedding", "parameters"),
    **dict.fromkeys(
        ("skip_prep", "strict", "trials_of_other_corpus"), (True, False)
    ),
}
# Python takes a number for an open file, whichever that is.
_TEXTS = set(
    "output_folder save_folder inference_folder train_log train_annotation "
    "valid_annotation noise_annotation rir_annotation pretrain_path "
    "embeddings_file cohort".split()
)
_TEXTS_OR_NULL = set(
    "data_folder_noise data_folder_rir pretrained enrolment_map calibration "
    "metadata spread_over".split()
)
_MODULES = {"compute_features", "mean_var_norm", "embedding_model"}
_MODULES |= {"classifier"}
_OBJECTS = _MODULES | set(
    "aam_loss objective opt_class lr_annealing epoch_counter error_stats "
    "train_logger checkpointer".split()
)
_OBJECTS_OR_NULL = {"wav_augment", "fea_augment", "margin_warmup"}
_PLAIN = str | int | float | list | tuple | dict


def check_values(hparams, source):
    """Refuses values that no experiment can use.

    Example
    -------
    >>> check_values({"lr": 0.001}, "ecapa.yaml")
    >>> check_values({"lr": -1}, "ecapa.yaml")
    Traceback (most recent call last):
    speechbrain_scl.errors.UserError: ecapa.yaml: lr=-1: it must be a number, above 0
    """
    for key, value in hparams.items():
        wanted = _wanted(key, value)
        if wanted:
            raise UserError(f"{source}: {key}={value!r}: {wanted}")


def _wanted(key, value):
    """What a value that cannot be used should be; else None."""
    if key in _RANGES:
        return None if value in _RANGES[key] else f"it must be {_RANGES[key]}"
    if key in _CHOICES:
        known = value in _CHOICES[key]
        return None if known else f"choose one of {_CHOICES[key]}"
    if value is None and key in _TEXTS_OR_NULL | _OBJECTS_OR_NULL | {"crops"}:
        return None
    if key in _TEXTS | _TEXTS_OR_NULL:
        says = isinstance(value, str) and value.strip("\0 ")
        return None if says else "name a path or a column"
    if key in _OBJECTS | _OBJECTS_OR_NULL:
        plain = value is None or isinstance(value, _PLAIN)
        said = "it must be an object, such as !new:package.module.Class"
        return said if plain else None
    if key == "modules":
        missing = _MODULES - set(value if isinstance(value, dict) else ())
        return f"it lacks {', '.join(sorted(missing))}" if missing else None
    if key == "crops":
        pair = isinstance(value, list | tuple) and len(value) == 2
        good = pair and value[0] in _CROPS and value[1] in _CROP
        return None if good else "[how many, seconds], such as [5, 3.0]"
    return None
