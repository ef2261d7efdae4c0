"""The output folder of a run: one run at a time, with the options it has."""

import contextlib
import errno
import json
import os
import zlib
from pathlib import Path

import ruamel.yaml
from hyperpyyaml.core import recursive_update

from speechbrain.utils.checkpoints import CKPT_PREFIX
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain_scl.errors import UserError
from speechbrain_scl.files import only_run_in, write_json

# What leaves the trained parameters as they are, or decides after the training
_FREE = """
output_folder save_folder inference_folder train_log train_logger data_folder
cnceleb1_folder cnceleb2_folder verification_file trials_of_other_corpus
train_annotation valid_annotation noise_annotation rir_annotation check_audio
max_excluded strict skip_prep num_workers ckpt_interval_minutes valid_batch_size
average_checkpoints
""".split()
_MAY_GROW = "number_of_epochs"
_RECORD = "options.json"


@contextlib.contextmanager
def run_folder(hparams, run_opts, hparams_file, overrides):
    """Holds the output folder of a run, from before its preparation.

    Refuses a second run at a time, other options than those that a checkpoint
    there came about with, a node that does not see the folder, and says in one
    line what cannot be written.
    """
    folder, save = hparams["output_folder"], hparams["save_folder"]
    try:
        with contextlib.ExitStack() as stack:
            if if_main_process():
                stack.enter_context(only_run_in(folder))
                os.makedirs(save, exist_ok=True)
                options = _options_of(hparams_file, overrides)
                for name in ("grad_accumulation_factor", "max_grad_norm"):
                    options[name] = repr(float(getattr(run_opts, name)))
                keep_to(save, "options", options)
            ddp_barrier()
            if not os.path.isfile(os.path.join(save, _RECORD)):
                raise UserError(
                    f"{save}: this process does not see the files of the "
                    "first: nodes need one output_folder, on a disk that they "
                    "share"
                )
            yield
    except OSError as error:
        inside = str(error.filename or "").startswith(folder)
        if not inside and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{error.filename or folder}: cannot be written "
            f"({error.strerror}): make room, allow writing, or name the folder "
            "as it was, and start the same command again"
        ) from error


def keep_to(save_folder, name, found):
    """Records what a run comes about with; refuses to go on with another."""
    path, record = Path(save_folder, _RECORD), {}
    try:
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(part, dict) for part in record.values()):
            raise ValueError("not as it was written")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it if the options are those "
            "of the run here"
        ) from error
    trained = any(path.parent.glob(f"{CKPT_PREFIX}*"))
    known = record.get(name, found) if trained else found
    differing = [
        f"{key}: {known.get(key, 'none')} -> {found.get(key, 'none')}"
        for key in dict.fromkeys([*known, *found])
        if known.get(key) != found.get(key)
        and not (
            key == _MAY_GROW
            and float(known.get(key, "inf")) < float(found.get(key, 0))
        )
    ]
    if differing:
        raise UserError(
            f"{save_folder}: the run here has other {name} "
            f"({'; '.join(differing)}): give those, choose another "
            "output_folder, or delete this one to train anew"
        )
    write_json(path, {**record, name: found})


def _options_of(hparams_file, overrides):
    """What a training file and a command line say that changes the result:
    dotted name -> text, with overrides merged as HyperPyYAML merges them and
    references as they are, so that one changed key is one difference."""
    reader = ruamel.yaml.YAML()
    tree = reader.load(Path(hparams_file))
    recursive_update(tree, reader.load(overrides) or {})
    return {
        key: text
        for key, text in _flat("", tree)
        if key.split(".")[0] not in _FREE and not key.startswith("__")
    }


def _flat(path, node):
    """Dotted names and texts; tags stay, numbers read alike."""
    tag = getattr(getattr(node, "tag", None), "value", None) or ""
    if isinstance(node, dict | list):
        if tag:
            yield path, tag
        inside = node if isinstance(node, dict) else dict(enumerate(node))
        for key, value in inside.items():
            yield from _flat(f"{path}.{key}".lstrip("."), value)
        return
    text = str(node)
    with contextlib.suppress(ValueError):
        text = repr(float(text))
    yield path, f"{tag} {text}".strip()


def digest_of(utterances):
    """What tells a manifest from others, wherever its files lie."""
    found = 0
    for u in utterances:
        row = f"{u.ID}\t{u.spk_id}\t{u.start}\t{u.stop}\n"
        found = zlib.crc32(row.encode(), found)
    return f"{len(utterances)} utterances, {found:08x}"
