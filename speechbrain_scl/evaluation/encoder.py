"""A trained encoder, from a folder or a hub."""

import os

from speechbrain.inference import EncoderClassifier
from speechbrain_scl.errors import UNLOADABLE, UserError, first_line
from speechbrain_scl.evaluation.store import folder_digest


class Encoder:
    """Waveforms to embeddings.

    Arguments
    ---------
    classifier : speechbrain.inference.EncoderClassifier
        The loaded model.
    folder : str
        Where its files are.
    """

    def __init__(self, classifier, folder):
        self.classifier = classifier
        self.key = folder_digest(folder)
        self.model_file = os.path.join(folder, "embedding_model.ckpt")

    @property
    def sample_rate(self):
        """In Hz, as the model's file says; 16,000 where it does not."""
        return getattr(self.classifier.hparams, "sample_rate", 16000)

    def __call__(self, wavs):
        """Embeddings of whole waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            [batch, time], equally long.

        Returns
        -------
        torch.Tensor
            [batch, dim].
        """
        return self.classifier.encode_batch(wavs).squeeze(1)


def load_encoder(source, folder, device="cpu"):
    """Loads an inference folder or a hub repository.

    Arguments
    ---------
    source : str
        The ``inference`` folder of a training's output, or a repository such
        as speechbrain/spkrec-ecapa-voxceleb.
    folder : str
        Below it each model gets a folder of its own: what is fetched stays,
        and is never taken for another model.
    device : str
        Such as cpu or cuda.

    Returns
    -------
    Encoder

    Raises
    ------
    UserError
        No such folder, or files in it that are damaged or hold code.
    """
    is_folder = os.path.isdir(source)
    if not is_folder and (
        source.startswith((".", "/", "results")) or source.count("/") != 1
    ):
        raise UserError(
            f"pretrain_path={source}: there is no such folder; it is the "
            "`inference` folder of a training's output, or a hub repository"
        )
    name = folder_digest(source) if is_folder else source.replace("/", "--")
    savedir = os.path.join(folder, name)
    try:
        classifier = EncoderClassifier.from_hparams(
            source=source, savedir=savedir, run_opts={"device": device}
        )
    except UNLOADABLE as error:
        raise UserError(
            f"pretrain_path={source}: cannot be loaded ({first_line(error)}); "
            "it must be an inference folder that is complete, or a hub "
            "repository that can be reached"
        ) from error
    return Encoder(classifier, source if is_folder else savedir)
