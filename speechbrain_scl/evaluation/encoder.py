"""A trained encoder, from a folder or a hub."""

import contextlib
import functools
import os

import huggingface_hub
import torch

from speechbrain.inference import EncoderClassifier
from speechbrain.utils.fetching import FetchConfig, fetch
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line
from speechbrain_scl.evaluation.any_length import AnyLength
from speechbrain_scl.evaluation.model_files import check_names, load_parameters
from speechbrain_scl.evaluation.provenance import DESCRIPTION, read_description
from speechbrain_scl.evaluation.store import folder_digest

# Published encoders, by short names
KNOWN = {
    "ecapa-voxceleb": "speechbrain/spkrec-ecapa-voxceleb",
    "resnet-voxceleb": "speechbrain/spkrec-resnet-voxceleb",
    "xvect-voxceleb": "speechbrain/spkrec-xvect-voxceleb",
}


class Encoder:
    """Waveforms to embeddings."""

    def __init__(self, classifier, folder):
        self.classifier = classifier
        self.training = read_description(folder)
        self.key = folder_digest(folder)
        self.model_file = os.path.join(folder, "embedding_model.ckpt")

    @property
    def sample_rate(self):
        """In Hz, as the model's file says; 16,000 where it does not."""
        return getattr(self.classifier.hparams, "sample_rate", 16000)

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
    may name whatever it likes, which is then called.
    """
    is_folder = os.path.isdir(source)
    if is_folder:
        _check_folder(source)
    else:
        source = KNOWN.get(source, source)
        if source.startswith((".", "/", "results")) or source.count("/") != 1:
            raise UserError(
                f"{source}: there is no such folder; a model is the `inference`"
                " folder of a training's output, a hub repository, or one of "
                f"{', '.join(KNOWN)}"
            )
    name = folder_digest(source) if is_folder else source.replace("/", "--")
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
            check_names(file, source)
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
                module.load_state_dict(load_parameters(pretrainer.paths[name]))
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


def _check_folder(folder):
    """The usual mistake is a folder above or beside the model."""
    below = os.path.join(folder, "inference")
    if os.path.isfile(os.path.join(below, "hyperparams.yaml")):
        raise UserError(
            f"{folder}: it holds a training; the model is in {below}"
        )
    if not os.path.isfile(os.path.join(folder, "hyperparams.yaml")):
        raise UserError(
            f"{folder}: no model, as it has no hyperparams.yaml; it must be "
            "the `inference` folder of a training's output"
        )
