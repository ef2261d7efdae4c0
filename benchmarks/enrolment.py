"""Two means of a speaker's enrolment utterances, side by side.

The mean of embeddings of unit length, which ``enrolment: mean`` takes, and the
mean of the embeddings as the encoder gives them, in which a longer one counts
more. Each speaker of the trial lists (whom the model has not heard) is
enrolled with the first utterances and tried with the others, by cosine,
against all speakers.

    python benchmarks/enrolment.py MODEL DATA_FOLDER LIST [LIST ...]
"""

import argparse
import os
import tempfile

import numpy as np
import torch

from speechbrain.dataio import audio_io
from speechbrain_scl.evaluation.embeddings import locate
from speechbrain_scl.evaluation.encoder import load_encoder
from speechbrain_scl.evaluation.enrolment import mean_embedding
from speechbrain_scl.evaluation.metrics import eer, min_dcf
from speechbrain_scl.evaluation.trials import read_trials


def utterances_of(lists):
    """Speaker -> utterances of the trial lists, sorted."""
    found = {}
    for path in lists:
        trials = read_trials(path)
        for name in {*trials.enrol_ids, *trials.test_ids}:
            found.setdefault(name.split("/")[0], set()).add(name)
    return {speaker: sorted(names) for speaker, names in found.items()}


def embed(encoder, paths):
    """Name -> embedding as the encoder gives it."""
    with torch.no_grad():
        return {
            name: encoder(audio_io.load(path)[0])[0].numpy()
            for name, path in paths.items()
        }


def unit(vectors):
    """Rows of length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def scores_of(enrolled, tested):
    """Cosines of every model with every test utterance, [models, tests]."""
    return unit(np.stack(enrolled)) @ unit(np.stack(tested)).T


def compare(vectors, of_speaker, n_enrol):
    """EER and minDCF of both means.

    Arguments
    ---------
    vectors : dict
        Utterance -> embedding.
    of_speaker : dict
        Speaker -> utterances, more than ``n_enrol``.
    n_enrol : int
        Utterances per model.

    Returns
    -------
    dict
        Name of the mean -> (EER, minDCF).
    """
    tests = [n for names in of_speaker.values() for n in names[n_enrol:]]
    labels = [
        [name in names for name in tests] for names in of_speaker.values()
    ]
    labels = np.array(labels).ravel()
    found = {}
    for name, mean in (
        ("unit vectors", lambda v: mean_embedding(list(unit(np.stack(v))))),
        ("as they are", lambda v: np.mean(v, axis=0)),
    ):
        models = [
            mean([vectors[n] for n in names[:n_enrol]])
            for names in of_speaker.values()
        ]
        scores = scores_of(models, [vectors[n] for n in tests]).ravel()
        found[name] = eer(scores, labels)[0], min_dcf(scores, labels)[0]
    return found


def main(arguments=None):
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="inference folder, or hub repository")
    parser.add_argument("data_folder", help="holds wav/")
    parser.add_argument("lists", nargs="+", help="trial lists")
    parser.add_argument("--enrol", type=int, nargs="+", default=[2, 3])
    args = parser.parse_args(arguments)
    of_speaker = {
        speaker: names
        for speaker, names in utterances_of(args.lists).items()
        if len(names) > max(args.enrol)
    }
    names = [n for names in of_speaker.values() for n in names]
    paths = locate(names, [args.data_folder], ", ".join(args.lists))
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder(args.model, os.path.join(folder, "models"))
        vectors = embed(encoder, paths)
    lengths = np.array([np.linalg.norm(v) for v in vectors.values()])
    print(
        f"{len(of_speaker)} speakers, {len(names)} utterances; the lengths of "
        f"their embeddings vary by {lengths.std() / lengths.mean():.0%}\n"
    )
    print("| utterances per model | mean of | EER | minDCF (0.01) |")
    print("|--:|---|--:|--:|")
    for n_enrol in args.enrol:
        found = compare(vectors, of_speaker, n_enrol)
        for name, (rate, cost) in found.items():
            print(f"| {n_enrol} | {name} | {rate:.2%} | {cost:.3f} |")


if __name__ == "__main__":
    main()
