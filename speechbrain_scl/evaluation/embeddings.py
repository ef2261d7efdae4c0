"""One embedding per utterance, whatever the batch it was computed in."""

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from speechbrain_scl.data.audio import check_all
from speechbrain_scl.distributed import rank
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.cache import GrowingCache
from speechbrain_scl.evaluation.processes import deal, gathering
from speechbrain_scl.evaluation.store import file_digest, of_one_dimension

# Seconds; the widest kernels of an encoder need a few frames.
SHORTEST = 0.1
_READ_AHEAD = 4  # batches


def extract_embeddings(
    encoder,
    paths,
    model_key,
    cache=None,
    batch_size=16,
    sample_rate=16000,
    crops=None,
):
    """Embeds whole utterances, each distinct one once.

    Only utterances of equal length share a batch: padding would change the
    features' mean and the pooling, so scores would depend on the batch. The
    last bits of a product may depend even on the number of rows, so under
    torchrun whole batches are dealt out to the processes, and a killed run
    leaves whole batches: any number of processes, of as many threads each,
    gives the same bits, and each of them all embeddings.

    With ``crops`` an embedding is [f, m] / sqrt(2): f of the whole utterance,
    unit length, and m the mean of the unit embeddings of evenly spaced crops.
    The inner product of two of them is

        1/2 cos(f_e, f_t) + 1/2 mean over all pairs of crops of their cosine

    which is the multi-crop score of the voxceleb_trainer lineage.

    Arguments
    ---------
    encoder : callable
        Waveforms [batch, time] to embeddings [batch, dim].
    paths : dict
        Name -> audio file, or a tuple of files whose audio is joined.
    model_key : str
        Changes with the model, e.g. ``folder_digest`` of its folder.
    cache : str or None
        An .npz file of embeddings by the hash of model and audio; what it
        holds is not computed again. Each process adds its part to it twice a
        minute (see ``GrowingCache``); all must see the same file.
    batch_size : int
        Utterances of one length at a time.
    sample_rate : int
        That of the encoder, Hz.
    crops : tuple or None
        (how many, seconds), e.g. (5, 3.0); audio that is shorter is repeated.

    Returns
    -------
    dict
        Name -> numpy.ndarray [dim], float32, unit length; [2 dim] with crops.

    Raises
    ------
    UserError
        Files that cannot be used (unreadable, silent, other rate, ...), all of
        them at once and before any is embedded.
    """
    paths = {
        name: (path,) if isinstance(path, str) else tuple(path)
        for name, path in paths.items()
    }
    utterances = sorted(set(paths.values()))
    with gathering() as gather:
        keys = _keys(utterances, model_key, crops, gather)
        known = GrowingCache(cache)
        known.known = of_one_dimension(known.known, keys.values(), cache)
        todo = [parts for parts in utterances if keys[parts] not in known.known]
        asked = hashlib.sha256(b"".join(keys[parts] for parts in todo))
        if len(set(gather(asked.digest()))) > 1:
            raise UserError(
                f"{cache}: the processes do not see the same cache; it must "
                "lie on a file system that they share"
            )
        lengths = _lengths(todo, sample_rate, gather)
        todo.sort(key=lambda parts: (lengths[parts], parts))
        mine = deal(list(_batches(todo, lengths, batch_size)))
        try:
            for batch, wavs in _loaded(_with_progress(mine)):
                vectors = _embed(encoder, wavs, batch)
                if crops:
                    vectors = _with_crops(
                        encoder, wavs, batch, vectors, crops, sample_rate
                    )
                known.add({keys[p]: v for p, v in zip(batch, vectors)})
        finally:
            known.save()
        for others in gather(known.new):
            known.known.update(others)
        if rank() == 0:
            known.join()
        gather(None)  # the next extraction finds one file, or nothing
    return {name: known.known[keys[parts]] for name, parts in paths.items()}


def _merged(dicts):
    return {key: value for part in dicts for key, value in part.items()}


def _with_progress(batches):
    with tqdm(
        total=sum(map(len, batches)),
        desc="Embedding",
        unit="utt",
        dynamic_ncols=True,
        disable=rank() > 0,
    ) as progress:
        for batch in batches:
            yield batch
            progress.update(len(batch))


def _keys(utterances, model_key, crops, gather):
    """By the contents of an utterance's files, each of which is read once."""
    files = sorted({path for parts in utterances for path in parts})
    mine = deal(files)
    with ThreadPoolExecutor() as pool:
        digests = gather(dict(zip(mine, pool.map(file_digest, mine))))
    digests = _merged(digests)
    return {
        parts: _key(model_key, [digests[p] for p in parts], crops)
        for parts in utterances
    }


def _key(model_key, digests, crops):
    parts = [model_key, *digests, *(map(str, crops) if crops else ())]
    return hashlib.sha256("".join(parts).encode()).digest()


def _lengths(utterances, sample_rate, gather):
    """Samples of each utterance; all its files are decoded and judged."""
    files = sorted({path for parts in utterances for path in parts})
    accepted, excluded = check_all(
        deal(files), sample_rate=sample_rate, check="full"
    )
    excluded = [file for part in gather(excluded) for file in part]
    if excluded:
        raise UserError(_complain(sorted(excluded, key=lambda e: e.path)))
    samples = _merged(gather({file.path: file.samples for file in accepted}))
    lengths = {parts: sum(samples[p] for p in parts) for parts in utterances}
    short = [p for p in utterances if lengths[p] < SHORTEST * sample_rate]
    if short:
        raise UserError(
            f"{len(short)} utterance(s) below {SHORTEST} s cannot be scored; "
            f"the first is {', '.join(short[0])}: "
            f"{lengths[short[0]] / sample_rate:.3f} s"
        )
    return lengths


def _batches(utterances, lengths, batch_size):
    """Consecutive utterances of one length."""
    for _, group in groupby(utterances, lengths.get):
        group = list(group)
        for i in range(0, len(group), batch_size):
            yield group[i : i + batch_size]


def _loaded(batches):
    """Batches with their waveforms, the next ones read in the meantime."""
    with ThreadPoolExecutor() as pool:
        waiting = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(_read, batch)))
            if len(waiting) > _READ_AHEAD:
                batch, wavs = waiting.popleft()
                yield batch, wavs.result()
        for batch, wavs in waiting:
            yield batch, wavs.result()


def _read(batch):
    return torch.from_numpy(
        np.stack(
            [
                np.concatenate(
                    [soundfile.read(p, dtype="float32")[0] for p in parts]
                )
                for parts in batch
            ]
        )
    )


def _embed(encoder, wavs, utterances):
    """Unit embeddings [batch, dim], or the utterance whose is not."""
    with torch.inference_mode():
        vectors = encoder(wavs).cpu().float()
    norms = vectors.norm(dim=1, keepdim=True)
    for parts, norm in zip(utterances, norms):
        if not (torch.isfinite(norm) and norm > 0):
            raise UserError(
                f"{', '.join(parts)}: the model's embedding is "
                f"{'zero' if norm == 0 else 'not finite'}"
            )
    return (vectors / norms).numpy()


def _with_crops(encoder, wavs, utterances, whole, crops, sample_rate):
    n, length = crops[0], int(crops[1] * sample_rate)
    repeats = -(-length // wavs.shape[1])
    wavs = wavs.repeat(1, repeats)
    starts = np.linspace(0, wavs.shape[1] - length, n).astype(int)
    pieces = torch.stack([wavs[:, s : s + length] for s in starts], 1)
    vectors = _embed(
        encoder,
        pieces.flatten(0, 1),
        [parts for parts in utterances for _ in range(n)],
    )
    means = vectors.reshape(len(wavs), n, -1).mean(1)
    return np.concatenate([whole, means], axis=1) / np.float32(np.sqrt(2))


def _complain(excluded):
    first = excluded[0]
    reasons = sorted({e.reason for e in excluded})
    return (
        f"{len(excluded)} file(s) cannot be scored ({', '.join(reasons)}); "
        f"the first is {first.path}: {first.reason}, {first.value}"
    )
