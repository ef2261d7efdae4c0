"""One embedding per utterance, whatever others are computed beside it."""

import contextlib
import datetime
import functools
import hashlib
import io
from collections import ChainMap, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from speechbrain.utils.distributed import ddp_barrier
from speechbrain_scl.data.audio import Excluded, check_all, read_audio
from speechbrain_scl.distributed import rank, world_size
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.store import EmbeddingCache

# Seconds; the widest kernels of an encoder need a few frames.
SHORTEST = 0.1
_READ_AHEAD = 2  # packs
# Whoever is done first waits for the slowest: hours, on unequal machines.
_PATIENCE = datetime.timedelta(days=7)


def extract_embeddings(
    embed,
    paths,
    model_key,
    cache=None,
    pack_seconds=60.0,
    sample_rate=16000,
    crops=None,
):
    """Embeds whole utterances, each distinct one once.

    Utterances of about one length share a pack. The last bits of an embedding
    may depend on what is computed beside it, so under torchrun whole packs are
    dealt out to the processes: any number of processes, of as many threads
    each, gives the same bits, and each of them all embeddings.

    With ``crops`` (how many, seconds; shorter audio is repeated) an embedding
    is [f, m] / sqrt(2): f of the whole utterance, unit length, and m the mean
    of the unit embeddings of evenly spaced crops. The inner product of two is

        1/2 cos(f_e, f_t) + 1/2 mean over all pairs of crops of their cosine

    which is the multi-crop score of the voxceleb_trainer lineage.

    ``embed`` is an ``AnyLength``, or takes the same waveforms. ``paths`` are by
    name: a file, or a tuple of files whose audio is joined. ``cache`` is the
    folder of an ``EmbeddingCache``. Returns name -> float32 [dim] of unit
    length, [2 dim] with crops. Files that cannot be used are told all at once:
    what their headers tell before anything is embedded; from the first other
    one on, nothing is embedded any more.
    """
    paths = {
        name: (path,) if isinstance(path, str) else tuple(path)
        for name, path in paths.items()
    }
    known = EmbeddingCache(cache, model_key, crops and list(crops))
    packs = _packs(paths, pack_seconds, sample_rate, crops)
    if world_size() > 1 and packs and hasattr(embed, "check"):
        # All processes find out by the same utterances how they embed.
        nothing = EmbeddingCache(None)
        some = [_read(x, nothing, sample_rate)[1] for x in packs[0][:3]]
        some = [x for x in some if not isinstance(x, Excluded)]
        embed.check([torch.from_numpy(wav) for _, wav in some])
    found, excluded = {}, []
    try:
        for pack in _read_ahead(_deal(packs), known, sample_rate):
            excluded += [x for x in pack.values() if isinstance(x, Excluded)]
            if not excluded:
                found |= _embed(embed, pack, known, crops, sample_rate)
    finally:
        known.save()
    _refuse(excluded)
    found = ChainMap(*_gather(found))
    if rank() == 0:
        known.join()
    _gather(None)  # nobody reads the cache before it is one file
    return {name: found[parts] for name, parts in paths.items()}


def _packs(paths, pack_seconds, sample_rate, crops):
    """Utterances (tuples of files) by length, as many as fill a pack."""
    utterances = sorted(set(paths.values()))
    files = sorted({path for parts in utterances for path in parts})
    accepted, excluded = check_all(_deal(files), sample_rate=sample_rate)
    _refuse(excluded)
    samples = ChainMap(*_gather({file.path: file.samples for file in accepted}))
    lengths = {
        parts: sum(samples[path] for path in parts) / sample_rate
        for parts in utterances
    }
    short = [parts for parts in utterances if lengths[parts] < SHORTEST]
    if short:
        raise UserError(
            f"{len(short)} utterance(s) below {SHORTEST} s cannot be scored; "
            f"the first is {', '.join(short[0])}: {lengths[short[0]]:.3f} s"
        )
    packs, room = [], 0.0
    for parts in sorted(utterances, key=lambda parts: (lengths[parts], parts)):
        needed = lengths[parts] + (crops[0] * crops[1] if crops else 0.0)
        if needed > room:
            packs.append([])
            room = pack_seconds
        packs[-1].append(parts)
        room -= needed
    return packs


def _refuse(excluded):
    """Tells of all files that any process found not to be usable."""
    excluded = sum(_gather(excluded), [])
    if excluded:
        first = min(excluded, key=lambda file: file.path)
        reasons = sorted({file.reason for file in excluded})
        raise UserError(
            f"{len(excluded)} file(s) cannot be scored ({', '.join(reasons)}); "
            f"the first is {first.path}: {first.reason}, {first.value}"
        )


def _read_ahead(packs, known, sample_rate):
    """What ``_read`` finds in each pack, the next ones read meanwhile."""
    read = functools.partial(_read, known=known, sample_rate=sample_rate)
    progress = tqdm(
        total=sum(map(len, packs)),
        desc="Embedding",
        unit="utt",
        dynamic_ncols=True,
        disable=rank() > 0 or None,  # where no terminal is
    )
    # On the CPU a second one would keep the interpreter's lock from the encoder.
    n_readers = None if torch.cuda.is_available() else 1
    with progress, ThreadPoolExecutor(n_readers) as pool:
        waiting = deque()
        for pack in [*packs, *[()] * _READ_AHEAD]:
            waiting.append(pool.map(read, pack))
            if len(waiting) > _READ_AHEAD:
                yield (found := dict(waiting.popleft()))
                progress.update(len(found))


def _read(parts, known, sample_rate):
    """An utterance and, of its files, the key and the samples [time]; samples
    None where its embedding is known; or what is wrong with a file."""
    contents, samples = [], []
    for path in parts:
        try:
            contents.append(Path(path).read_bytes())
        except OSError as error:  # gone since, or a disk that fails
            return parts, Excluded(path, "unreadable", str(error))
    key = known.key(*(hashlib.sha256(x).hexdigest() for x in contents))
    if key in known.known:
        return parts, (key, None)
    for path, content in zip(parts, contents):
        judged, signal = read_audio(path, io.BytesIO(content), sample_rate)
        if isinstance(judged, Excluded):
            return parts, judged
        samples.append(signal)
    return parts, (key, np.concatenate(samples))


def _embed(embed, pack, known, crops, sample_rate):
    """Utterance -> embedding of a pack."""
    new = {x: wav for x, (_, wav) in pack.items() if wav is not None}
    pieces, owners = list(new.values()), list(new)
    if crops:
        n, length = crops[0], int(crops[1] * sample_rate)
        for parts, wav in new.items():
            wav = np.tile(wav, -(-length // len(wav)))
            starts = np.linspace(0, len(wav) - length, n).astype(int)
            pieces += [wav[start : start + length] for start in starts]
            owners += [parts] * n
    if pieces:
        vectors = _unit(embed, list(map(torch.from_numpy, pieces)), owners)
        if crops:
            whole, parts = np.split(vectors, [len(new)])
            means = parts.reshape(len(new), n, -1).mean(1)
            vectors = np.concatenate([whole, means], axis=1)
            vectors /= np.float32(np.sqrt(2))
        known.add(dict(zip((pack[parts][0] for parts in new), vectors)))
    return {parts: known.known[key] for parts, (key, _) in pack.items()}


def _unit(embed, wavs, owners):
    """Unit embeddings [len, dim], or the utterance whose is not."""
    with torch.inference_mode():
        vectors = embed(wavs).cpu().float()
    norms = vectors.norm(dim=1, keepdim=True)
    for parts, norm in zip(owners, norms.flatten().tolist()):
        if not 0 < norm < np.inf:
            raise UserError(
                f"{', '.join(parts)}: the model's embedding is "
                f"{'zero' if norm == 0 else 'not finite'}"
            )
    return (vectors / norms).numpy()


@contextlib.contextmanager
def main_first():
    """The main process goes ahead: the others find the files that it made."""
    if rank() > 0:
        ddp_barrier()
    yield
    if rank() == 0:
        ddp_barrier()


def _deal(items):
    """This process's part of a list that is the same in all of them; dealt like
    cards, so that neighbours of one size are shared evenly."""
    return items[rank() :: world_size()]


def _gather(mine):
    """What each process has, in the order of the ranks."""
    if world_size() == 1:
        return [mine]
    found = [None] * world_size()
    dist.all_gather_object(found, mine, group=_patient_group(dist.group.WORLD))
    return found


@functools.cache
def _patient_group(_):
    """The processes, joined on the CPU: NCCL would need the GPU's memory, and
    gives up on a process that is late."""
    return dist.new_group(backend="gloo", timeout=_PATIENCE)
