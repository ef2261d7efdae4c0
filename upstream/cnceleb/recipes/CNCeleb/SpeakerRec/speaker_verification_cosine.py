#!/usr/bin/python3
"""Recipe for speaker verification on CN-Celeb.E: the cosine of speaker
embeddings, with enrolment models of several utterances.

To run this recipe, use the following command:
> python speaker_verification_cosine.py hparams/verification_ecapa_scl.yaml

The convention of enrolment changes the figures: with --enrolment=avg a model
is the mean of its utterances' embeddings, with --enrolment=concat it is the
embedding of the corpus's one joined recording.

Authors
    * YOUR NAME 2026
"""

import os
import sys

import torch
import torch.nn.functional as F
from cnceleb_prepare import prepare_cnceleb, read_list
from hyperpyyaml import load_hyperpyyaml
from tqdm import tqdm

import speechbrain as sb
from speechbrain.dataio import audio_io
from speechbrain.utils.distributed import infer_device, run_on_main
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)


def dataio_prep(params, csv_path):
    """Creates the loader of a csv file's whole utterances, sorted by length
    so that batches need little padding."""
    data = sb.dataio.dataset.DynamicItemDataset.from_csv(
        csv_path=csv_path, replacements={"data_root": params["data_folder"]}
    ).filtered_sorted(sort_key="duration")

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio_pipeline(wav):
        return audio_io.load(wav)[0].mean(0)

    data.add_dynamic_item(audio_pipeline)
    data.set_output_keys(["id", "spk_id", "wav", "sig"])
    return sb.dataio.dataloader.make_dataloader(
        data, **params["dataloader_options"]
    )


def compute_embeddings(params, loader, device):
    """Computes the embeddings of a loader's utterances.

    Arguments
    ---------
    params : dict
        The hyperparameters.
    loader : DataLoader
        Of utterances.
    device : str
        Where to compute.

    Returns
    -------
    speakers, paths : list of str
        Of each utterance.
    embeddings : torch.Tensor
        Of unit length, [utterances, dim].
    """
    speakers, paths, embeddings = [], [], []
    with torch.no_grad():
        for batch in tqdm(loader, dynamic_ncols=True):
            wavs, lens = batch.to(device).sig
            feats = params["compute_features"](wavs)
            feats = params["mean_var_norm"](feats, lens)
            found = params["embedding_model"](feats, lens).squeeze(1)
            embeddings.append(F.normalize(found, dim=1).cpu())
            speakers.extend(batch.spk_id)
            paths.extend(batch.wav)
    return speakers, paths, torch.cat(embeddings)


def mean_embeddings(models, embeddings):
    """The mean of each model's embeddings.

    Arguments
    ---------
    models : list of str
        The model of each embedding.
    embeddings : torch.Tensor
        [utterances, dim]

    Returns
    -------
    index : dict
        Model -> row.
    means : torch.Tensor
        Of unit length, [models, dim].
    """
    index = {model: i for i, model in enumerate(dict.fromkeys(models))}
    means = torch.zeros(len(index), embeddings.shape[1])
    means.index_add_(0, torch.tensor([index[m] for m in models]), embeddings)
    return index, F.normalize(means, dim=1)


def error_rates(scores, labels, p_target):
    """Computes EER and minDCF from one sort. EER and minDCF of
    speechbrain.utils.metric_stats compare every threshold with every score,
    too many for the 3.5 million trials here.

    Arguments
    ---------
    scores : torch.Tensor
        [trials]
    labels : torch.Tensor
        1 for trials of the same speaker, 0 for others, [trials].
    p_target : float
        The prior of a trial of the same speaker.

    Returns
    -------
    eer : float
        In [0, 1].
    min_dcf : float
        Divided by the cost of the better constant decision.
    """
    scores, order = scores.sort()
    same = labels[order].double()
    # Each score but the first of equal ones as the threshold, from below
    last = torch.ones_like(scores, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    p_miss = (same.cumsum(0) / same.sum())[last]
    p_fa = (1.0 - (1.0 - same).cumsum(0) / (1.0 - same).sum())[last]
    nearest = (p_fa - p_miss).abs().argmin()
    eer = (p_fa[nearest] + p_miss[nearest]) / 2
    dcf = p_target * p_miss + (1 - p_target) * p_fa
    return eer.item(), dcf.min().item() / min(p_target, 1 - p_target)


if __name__ == "__main__":
    # Load hyperparameters file with command-line overrides
    params_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(params_file, encoding="utf-8") as fin:
        params = load_hyperpyyaml(fin, overrides)
    sb.core.create_experiment_directory(
        experiment_directory=params["output_folder"],
        hyperparams_to_save=params_file,
        overrides=overrides,
    )
    prepare_cnceleb(
        data_folder=params["data_folder"],
        save_folder=params["save_folder"],
        splits=["enrol_" + params["enrolment"], "test"],
        skip_prep=params["skip_prep"],
    )

    # The encoder, on the GPU where there is one
    device = run_opts["device"] or infer_device()
    run_on_main(params["pretrainer"].collect_files)
    params["pretrainer"].load_collected()
    for name in ("compute_features", "embedding_model"):
        params[name].eval().to(device)

    logger.info("Computing enrol/test embeddings on %s...", device)
    models, _, enrol = compute_embeddings(
        params, dataio_prep(params, params["enrol_data"]), device
    )
    model_index, enrol = mean_embeddings(models, enrol)
    _, paths, test = compute_embeddings(
        params, dataio_prep(params, params["test_data"]), device
    )
    # Trials name test/x.wav, which is x.flac on disk.
    test_index = {
        os.path.splitext(os.path.basename(path))[0]: i
        for i, path in enumerate(paths)
    }

    logger.info("Scoring...")
    trials = read_list(params["verification_file"])
    all_scores = enrol @ test.T
    rows = torch.tensor([model_index[model] for model, _, _ in trials])
    columns = torch.tensor(
        [
            test_index[os.path.splitext(os.path.basename(name))[0]]
            for _, name, _ in trials
        ]
    )
    scores = all_scores[rows, columns]
    path = os.path.join(params["output_folder"], "scores.txt")
    with open(path, "w", encoding="utf-8") as s_file:
        for (model, name, label), score in zip(trials, scores.tolist()):
            s_file.write(f"{model} {name} {label} {score:.6f}\n")

    labels = torch.tensor([int(label) for _, _, label in trials])
    eer, min_dcf = error_rates(scores, labels, params["p_target"])
    logger.info("Enrolment: %s, %d trials", params["enrolment"], len(trials))
    logger.info("EER(%%)=%f", eer * 100)
    logger.info("minDCF=%f (p_target=%s)", min_dcf, params["p_target"])
