"""A model's files come from others: judged before they are used."""

import pydoc
import zipfile
import zlib
from pathlib import Path

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
_MARK = "# A speaker encoder, trained with speechbrain_scl; checksum "
# Of HyperPyYAML's tags, those that make nothing
_HARMLESS = ("!ref", "!copy", "!tuple", "!PLACEHOLDER")


def check_names(path, source):
    """Refuses a hyperparams.yaml that names more than a model's parts.

    HyperPyYAML calls whatever a file names. A model needs modules of torch,
    SpeechBrain and this package, SpeechBrain's pretrainer and label encoder.
    """
    text = Path(path).read_text(encoding="utf-8")
    for event in _events(text):
        tag = getattr(event, "tag", None)
        if tag is not None and not _is_part(str(tag)):
            raise UserError(
                f"{source}: its hyperparams.yaml names {tag}, which no model of SpeechBrain's or "
                "this package's needs; if you trust whoever made it, --trust "
                "loads it (trust=True in Python, trust_model: True in a "
                "verification's yaml)"
            )
    first, _, rest = text.partition("\n")
    if first.startswith(_MARK) and text != with_checksum(rest):
        raise UserError(
            f"{source}: its hyperparams.yaml is not as it was written; if the "
            "change is meant, delete its first line"
        )


def with_checksum(text):
    """A hyperparams.yaml whose damage ``check_names`` tells."""
    return f"{_MARK}{zlib.crc32(text.encode()):08x}\n{text}"


def _events(text):
    """Of the parser that resolves references, and may call what is named for it,
    then of the one that reads what comes of it."""
    yield from ruamel.yaml.YAML().parse(text)
    yield from yaml.parse(resolve_references(text))


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
    """Tensors and numbers of a .ckpt file, as they were written: torch.load does
    not read the checksums that torch.save wrote."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"it is damaged: {error}") from error
        if damaged:
            raise ValueError(f"it is damaged: {damaged} fails its checksum")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, no parameters")
    return hook_on_loading_state_dict_checkpoint(state)  # names of before
