"""A trained encoder as one ONNX file, checked against PyTorch."""

import contextlib
import copy
import io
import logging
import warnings

import numpy as np
import torch

from speechbrain_scl.errors import UserError, first_line
from speechbrain_scl.files import atomic_write

# Of unit-length embeddings, in any dimension. A cosine then differs by less
# than what the third digit shows.
TOLERANCE = 1e-4

# Batches of other sizes and lengths (in s) than the traced one
_CHECKED = ((1, 1.0), (2, 0.75), (3, 2.3), (1, 10.1))


class _DftConvolution(torch.nn.Module):
    """SpeechBrain's STFT as a convolution, for runtimes without one."""

    def __init__(self, stft):
        super().__init__()
        size = stft.n_fft
        window = torch.zeros(size, dtype=torch.float64)
        first = (size - stft.win_length) // 2
        window[first : first + stft.win_length] = stft.window
        spectrum = torch.fft.rfft(torch.diag(window))  # [sample, bin]
        kernel = torch.cat([spectrum.real.T, spectrum.imag.T])
        self.register_buffer("kernel", kernel[:, None].float())
        self.n_bins = size // 2 + 1
        self.padding = size // 2 if stft.center else 0
        self.hop_length = stft.hop_length

    def forward(self, wavs):
        """[batch, time] to real and imaginary parts, [batch, frames, bins, 2]."""
        parts = torch.nn.functional.conv1d(
            wavs[:, None],
            self.kernel,
            stride=self.hop_length,
            padding=self.padding,
        ).transpose(1, 2)
        real, imaginary = parts[..., : self.n_bins], parts[..., self.n_bins :]
        return torch.stack([real, imaginary], -1)


class _WaveformToEmbedding(torch.nn.Module):
    """Whole waveforms, equally long: nothing depends on their number."""

    def __init__(self, modules):
        super().__init__()
        self.features = copy.deepcopy(modules.compute_features)
        self.features.compute_STFT = _DftConvolution(self.features.compute_STFT)
        self.normalise = copy.deepcopy(modules.mean_var_norm)
        self.encoder = copy.deepcopy(modules.embedding_model)

    def forward(self, waveform):
        whole = torch.ones(1)  # relative length, for all
        features = self.normalise(self.features(waveform), whole)
        # [batch, 1, dim] of ECAPA-TDNN, [batch, dim] of ResNet
        return self.encoder(features, whole).flatten(1)


def export_onnx(encoder, path):
    """Writes an encoder as ONNX, from ``waveform`` [batch, time] to
    ``embedding`` [batch, dim], and its ``sample_rate`` in the metadata. Returns
    the largest difference of unit-length embeddings from PyTorch's; above
    ``TOLERANCE`` nothing is written."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  the exporter of torch.onnx needs it
    except ImportError as error:
        raise UserError(
            f"{error.name} is missing: pip install onnx onnxscript onnxruntime"
        ) from error
    modules = encoder.classifier.mods
    if not hasattr(modules.compute_features, "compute_STFT"):
        raise UserError(
            f"{path}: not written; the model's features are "
            f"{type(modules.compute_features).__name__}, not Fbank"
        )
    module = _WaveformToEmbedding(modules).eval()
    # Whether both really stay free, the comparison shows.
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    example = (torch.randn(2, encoder.sample_rate),)
    names = {"input_names": ["waveform"], "output_names": ["embedding"]}
    try:
        with _in_silence():
            traced = torch.export.export(
                module, example, dynamic_shapes=(free,), strict=False
            )
            program = torch.onnx.export(traced, **names, verbose=False)
        # The exporter calls the axes s16 and the like.
        graph = program.model.graph
        (waveform,), (embedding,) = graph.inputs, graph.outputs
        shape = type(waveform.shape)
        waveform.shape = shape(["batch", "time"])
        embedding.shape = shape(["batch", embedding.shape[1]])
        program.model.metadata_props["sample_rate"] = str(encoder.sample_rate)
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(
            content, providers=["CPUExecutionProvider"]
        )
        difference = max(_difference(encoder, session, *x) for x in _CHECKED)
    except Exception as error:
        # Exporters raise whatever the place that stops them does.
        raise UserError(
            f"{path}: not written; this encoder cannot be expressed in ONNX "
            f"({first_line(error)})"
        ) from error
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path}: not written; its embeddings would differ from PyTorch's "
            f"by {difference:.1e}, more than {TOLERANCE:.0e}"
        )
    with atomic_write(path, binary=True) as file:
        file.write(content)
    return difference


@contextlib.contextmanager
def _in_silence():
    """The exporter prints pages on what it cannot express; errors are told."""
    nowhere = io.StringIO()
    quiet = contextlib.redirect_stdout(nowhere)
    with quiet, contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _difference(encoder, session, batch, seconds):
    """The largest, of unit-length embeddings of noise."""
    generator = torch.Generator().manual_seed(0)
    size = int(seconds * encoder.sample_rate)
    wavs = 0.1 * torch.randn(batch, size, generator=generator)
    (found,) = session.run(None, {"waveform": wavs.numpy()})
    wanted = encoder(wavs).numpy()
    found, wanted = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, wanted)
    )
    return float(np.abs(found - wanted).max())
