"""A model's files come from others: judged before they are used."""

import pydoc
import zipfile

import ruamel.yaml
import torch
import yaml
from hyperpyyaml.core import resolve_references

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.checkpoints import hook_on_loading_state_dict_checkpoint
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain_scl.errors import UserError

_PACKAGES = ("speechbrain", "speechbrain_scl", "torch", "torchaudio")
_CLASSES = (torch.nn.Module, Pretrainer, CategoricalEncoder)
# Of HyperPyYAML's tags, those that make nothing
_HARMLESS = ("!ref", "!copy", "!tuple", "!PLACEHOLDER")


def check_names(path, source):
    """Refuses a hyperparams.yaml that names more than a model's parts.

    HyperPyYAML calls whatever a file names. A model needs modules of torch,
    SpeechBrain and this package, SpeechBrain's pretrainer and label encoder.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyperparams.yaml"
    >>> _ = path.write_text("a: !new:torch.nn.ReLU")
    >>> check_names(path, "results/inference")
    >>> _ = path.write_text("a: !apply:os.system [ls]")
    >>> check_names(path, "results/inference")
    Traceback (most recent call last):
    speechbrain_scl.errors.UserError: results/inference: its hyperparams.yaml names !apply:os.system, ...
    """
    # References are resolved by another parser than what comes of it.
    with open(path, encoding="utf-8") as file:
        _check_tags(source, ruamel.yaml.YAML().parse(file))
    with open(path, encoding="utf-8") as file:
        _check_tags(source, yaml.parse(resolve_references(file)))


def _check_tags(source, events):
    for event in events:
        tag = getattr(event, "tag", None)
        if tag is not None and not _is_part(str(tag)):
            raise UserError(
                f"{source}: its hyperparams.yaml names {tag}, which no model of SpeechBrain's or "
                "this package's needs; if you trust whoever made it, --trust "
                "loads it (trust=True in Python, trust_model: True in a "
                "verification's yaml)"
            )


def _is_part(tag):
    kind, _, name = tag.partition(":")
    if tag.startswith("tag:yaml.org,2002:"):
        return "python" not in tag
    if kind in _HARMLESS or not tag.strip("!"):
        return True
    if kind not in ("!new", "!name") or name.split(".")[0] not in _PACKAGES:
        return False
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    return (
        isinstance(found, type)
        and issubclass(found, _CLASSES)
        and found.__module__.split(".")[0] in _PACKAGES
    )


def load_parameters(path):
    """Tensors and numbers of a .ckpt file, as they were written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.ckpt"
    >>> torch.save({"weight": torch.ones(1)}, path)
    >>> load_parameters(path)
    {'weight': tensor([1.])}
    """
    check_archive(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, no parameters")
    return hook_on_loading_state_dict_checkpoint(state)  # names of before


def check_archive(path):
    """Compares what torch.save wrote with its checksums, which torch.load
    does not read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    if damaged:
        raise ValueError(f"it is damaged: {damaged} fails its checksum")
