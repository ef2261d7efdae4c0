"""One embedding per utterance, whatever the batch it was computed in."""

import hashlib
import os
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from speechbrain_scl.corpora.audio import READABLE, check_all
from speechbrain_scl.errors import UserError

_KEY_BYTES = 32  # SHA-256


def locate(names, roots, source):
    """Finds the audio file of each name of a trial list.

    Arguments
    ---------
    names : iterable of str
        Paths below a root's wav/ folder (or below the root itself); .wav and
        .flac, or no ending, stand for each other.
    roots : list of str
        Data folders, searched in order.
    source : str
        Who names them, for the error.

    Returns
    -------
    dict
        Name -> path.

    Raises
    ------
    UserError
        Names without a file: how many, and the first.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "wav").mkdir()
    >>> (folder / "wav" / "a.flac").touch()
    >>> found = locate(["a.wav"], [str(folder)], "trials.txt")
    >>> os.path.basename(found["a.wav"])
    'a.flac'
    """
    folders = [Path(root) / sub for root in roots for sub in ("wav", "")]
    folders = [folder for folder in folders if folder.is_dir()]
    found, missing = {}, []
    for name in names:
        path = next(filter(os.path.isfile, _candidates(name, folders)), None)
        if path is None:
            missing.append(name)
        found[name] = path
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(found)} utterances are not "
            f"below {', '.join(map(str, roots))}; the first is {missing[0]}"
        )
    return found


def _candidates(name, folders):
    stem, ending = os.path.splitext(name)
    if ending.lower() not in READABLE:
        stem = name
    for folder in folders:
        yield str(folder / name)
        for other in READABLE:
            yield str(folder / (stem + other))


def extract_embeddings(
    encoder, paths, model_key, cache=None, batch_size=16, sample_rate=16000
):
    """Embeds whole utterances, each distinct one once.

    Only utterances of equal length share a batch: padding would change the
    features' mean and the pooling, so scores would depend on the batch.

    Arguments
    ---------
    encoder : callable
        Waveforms [batch, time] to embeddings [batch, dim].
    paths : dict
        Name -> audio file.
    model_key : str
        Changes with the model, e.g. ``folder_digest`` of its folder.
    cache : str or None
        An .npz file of embeddings by the hash of model and audio; what it
        holds is not computed again, and it is written even if the extraction
        is interrupted.
    batch_size : int
        Utterances of one length at a time.
    sample_rate : int
        That of the encoder, Hz.

    Returns
    -------
    dict
        Name -> numpy.ndarray [dim], float32, unit length.

    Raises
    ------
    UserError
        Files that cannot be used (unreadable, silent, other rate, ...).
    """
    files = sorted(set(paths.values()))
    accepted, excluded = check_all(files, sample_rate=sample_rate, check="full")
    if excluded:
        raise UserError(_complain(excluded))
    keys = {path: _audio_key(model_key, path) for path in files}
    known = _read_cache(cache)
    todo = [f for f in accepted if keys[f.path] not in known]
    todo.sort(key=lambda f: (f.samples, f.path))
    try:
        with tqdm(
            total=len(todo), desc="Embedding", unit="utt", dynamic_ncols=True
        ) as progress:
            for batch in _equal_lengths(todo, batch_size):
                wavs = np.stack(
                    [soundfile.read(f.path, dtype="float32")[0] for f in batch]
                )
                with torch.no_grad():
                    vectors = encoder(torch.from_numpy(wavs)).cpu().float()
                norms = vectors.norm(dim=1)
                for file, vector, norm in zip(batch, vectors, norms):
                    if not (torch.isfinite(norm) and norm > 0):
                        raise UserError(
                            f"{file.path}: the model's embedding is "
                            f"{'zero' if norm == 0 else 'not finite'}"
                        )
                    known[keys[file.path]] = (vector / norm).numpy()
                progress.update(len(batch))
    finally:
        if cache and todo:
            _write_cache(cache, known)
    return {name: known[keys[path]] for name, path in paths.items()}


def folder_digest(folder):
    """SHA-256 over the names and contents of a folder's files.

    Arguments
    ---------
    folder : str
        E.g. an inference folder.

    Returns
    -------
    str

    Example
    -------
    >>> len(folder_digest(str(getfixture("tmp_path"))))
    64
    """
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(file_digest(path).encode())
    return digest.hexdigest()


def file_digest(path):
    """SHA-256 of a file's content.

    Arguments
    ---------
    path : str
        The file.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _audio_key(model_key, path):
    return hashlib.sha256((model_key + file_digest(path)).encode()).digest()


def _equal_lengths(files, batch_size):
    batch = []
    for file in files:
        if batch and (
            len(batch) == batch_size or file.samples != batch[0].samples
        ):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _read_cache(cache):
    if not cache or not os.path.isfile(cache):
        return {}
    try:
        with np.load(cache, allow_pickle=False) as stored:
            keys, vectors = stored["keys"], stored["vectors"]
    except (OSError, ValueError, KeyError):
        # A cache is only ever a saving: a broken one is made anew.
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors)}


def _write_cache(cache, known):
    if not known:
        return
    keys = np.frombuffer(b"".join(known), dtype=np.uint8)
    aside = f"{cache}.aside.npz"
    os.makedirs(os.path.dirname(os.path.abspath(cache)), exist_ok=True)
    np.savez(
        aside,
        keys=keys.reshape(-1, _KEY_BYTES),
        vectors=np.stack(list(known.values())),
    )
    os.replace(aside, cache)


def _complain(excluded):
    first = excluded[0]
    reasons = sorted({e.reason for e in excluded})
    return (
        f"{len(excluded)} file(s) cannot be scored ({', '.join(reasons)}); "
        f"the first is {first.path}: {first.reason}, {first.value}"
    )
