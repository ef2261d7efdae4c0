"""A trained encoder, from a folder or a hub: judged before it is used."""

import contextlib
import functools
import os
import pydoc
import zipfile
import zlib
from pathlib import Path

import huggingface_hub
import ruamel.yaml
import torch
import yaml
from hyperpyyaml.core import resolve_references

from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference import EncoderClassifier
from speechbrain.utils.checkpoints import hook_on_loading_state_dict_checkpoint
from speechbrain.utils.fetching import FetchConfig, fetch
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line
from speechbrain_scl.evaluation.packed import AnyLength
from speechbrain_scl.evaluation.store import (
    DESCRIPTION,
    folder_digest,
    read_description,
)

# Published encoders, by short names
KNOWN = {
    "ecapa-voxceleb": "speechbrain/spkrec-ecapa-voxceleb",
    "resnet-voxceleb": "speechbrain/spkrec-resnet-voxceleb",
    "xvect-voxceleb": "speechbrain/spkrec-xvect-voxceleb",
}
# What a model's file may name
_PACKAGES = ("speechbrain", "speechbrain_scl", "torch", "torchaudio")
_CLASSES = (torch.nn.Module, Pretrainer, CategoricalEncoder)
# Of HyperPyYAML's tags, those that make nothing
_HARMLESS = ("!ref", "!copy", "!tuple", "!PLACEHOLDER")
_MARK = "# A speaker encoder, trained with speechbrain_scl; checksum "


class Encoder:
    """Waveforms to embeddings."""

    def __init__(self, classifier, folder):
        self.classifier = classifier
        self.training = read_description(folder)
        self.key = folder_digest(folder)
        self.model_file = os.path.join(folder, "embedding_model.ckpt")
        # In Hz; 16,000 where the model's file does not say it.
        self.sample_rate = getattr(classifier.hparams, "sample_rate", 16000)

    def __call__(self, wavs):
        """Whole waveforms of one length [batch, time] to [batch, dim]."""
        return self.classifier.encode_batch(wavs).squeeze(1)

    @functools.cached_property
    def embed(self):
        """``AnyLength``: a list of waveforms [time] to [len, dim]."""
        return AnyLength(self, self.classifier.mods)


def load_encoder(source, folder, device="cpu", trust=False):
    """Loads an inference folder, a hub repository or one of ``KNOWN``.

    Below ``folder`` each model gets a folder of its own: what is fetched stays,
    and is never taken for another model. With ``trust`` its hyperparams.yaml
    may name whatever it likes, which is then called."""
    is_folder = os.path.isdir(source)
    if is_folder:
        # The usual mistake is a folder above or beside the model.
        below = os.path.join(source, "inference")
        if os.path.isfile(os.path.join(below, "hyperparams.yaml")):
            raise UserError(
                f"{source}: it holds a training; the model is in {below}"
            )
        if not os.path.isfile(os.path.join(source, "hyperparams.yaml")):
            raise UserError(
                f"{source}: no model, as it has no hyperparams.yaml; it must "
                "be the `inference` folder of a training's output"
            )
        name = folder_digest(source)
    else:
        source = KNOWN.get(source, source)
        if source.startswith((".", "/", "results")) or source.count("/") != 1:
            raise UserError(
                f"{source}: there is no such folder; a model is the `inference`"
                " folder of a training's output, a hub repository, or one of "
                f"{', '.join(KNOWN)}"
            )
        name = source.replace("/", "--")
    savedir = os.path.join(folder, name)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device={device}: not on this machine ({first_line(error)}); cpu "
            "is everywhere"
        ) from error
    try:
        how = how_to_fetch(source)
        if not trust:
            file = fetch("hyperparams.yaml", source, savedir, fetch_config=how)
            _check_names(file, source)
        classifier = EncoderClassifier.from_hparams(
            source=source,
            savedir=savedir,
            run_opts={"device": device},
            fetch_config=how,
        )
        # SpeechBrain leaves at random what a file does not name or has damaged.
        pretrainer = classifier.hparams.pretrainer
        for name in ("embedding_model", "classifier"):
            module = pretrainer.loadables.get(name)
            if isinstance(module, torch.nn.Module):
                module.load_state_dict(_parameters(pretrainer.paths[name]))
        if not is_folder:
            with contextlib.suppress(*UNLOADABLE):  # few repositories have it
                fetch(DESCRIPTION, source, savedir, fetch_config=how)
    except UserError:
        raise
    except Exception as error:
        # Whatever a damaged or foreign file makes its reader raise
        bring = (
            f"; where there is a network, `hf download {source} --local-dir "
            "FOLDER` makes a folder to bring here and give as the model"
        )
        raise UserError(
            f"{source}: cannot be loaded ({first_line(error)}); "
            "it must be an inference folder that is complete, or a hub "
            "repository that can be reached" + bring * (not is_folder)
        ) from error
    return Encoder(classifier, source if is_folder else savedir)


def how_to_fetch(source):
    """SpeechBrain's options for files of a model.

    The hub is asked once: without a network its client would try for half a
    minute to fetch what is not in its cache."""
    reachable = True
    if not os.path.isdir(source):
        # Loads its client's network library
        from huggingface_hub.errors import HfHubHTTPError

        url = huggingface_hub.hf_hub_url(source, "hyperparams.yaml")
        try:
            huggingface_hub.get_hf_file_metadata(url)
        except HfHubHTTPError:
            pass  # it has no such repository, or wants a token
        except Exception:
            # Each version of the client raises its network library's own.
            reachable = False
    return FetchConfig(allow_network=reachable)


def _check_names(path, source):
    """Refuses a hyperparams.yaml that names more than a model's parts, as
    HyperPyYAML calls whatever a file names; or one that is damaged."""
    text = Path(path).read_text(encoding="utf-8")
    # The parser that resolves references, and may call what is named for it;
    # then the one that reads what comes of it.
    for parsed in (
        lambda: ruamel.yaml.YAML().parse(text),
        lambda: yaml.parse(resolve_references(text)),
    ):
        for event in parsed():
            tag = getattr(event, "tag", None)
            if tag is not None and not _is_part(str(tag)):
                raise UserError(
                    f"{source}: its hyperparams.yaml names {tag}, which no "
                    "model of SpeechBrain's or this package's needs; if you "
                    "trust whoever made it, --trust loads it (trust=True in "
                    "Python, trust_model: True in a verification's yaml)"
                )
    first, _, rest = text.partition("\n")
    if first.startswith(_MARK) and text != with_checksum(rest):
        raise UserError(
            f"{source}: its hyperparams.yaml is not as it was written; if the "
            "change is meant, delete its first line"
        )


def with_checksum(text):
    """A hyperparams.yaml whose damage is told when it is loaded."""
    return f"{_MARK}{zlib.crc32(text.encode()):08x}\n{text}"


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


def _parameters(path):
    """Tensors and numbers of a .ckpt file, as they were written: torch.load does
    not read the checksums that torch.save wrote."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"it is damaged: {damaged} fails its checksum")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return hook_on_loading_state_dict_checkpoint(state)  # names of before
