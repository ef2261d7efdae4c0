"""The data of a training: rows of the manifests to crops with labels."""

import dataclasses
import functools
import math
import os
import random
from collections import Counter

import soundfile
import torch
import torchaudio

import speechbrain as sb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import Utterance, read_column, read_manifest
from speechbrain_scl.data.tables import read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.conditions import read_metadata
from speechbrain_scl.training.folder import digest_of, keep_to

logger = get_logger(__name__)


class UtteranceDataset(DynamicItemDataset):
    """Utterances, of which a batch may hold one more than once: items that take
    ``repetition`` (0 for the first time in a batch, then 1, ...) tell them
    apart. The same crop twice would be a positive pair that says nothing."""

    def __getitems__(self, indices):
        """The items of a batch, by their places in the data."""
        times, items = Counter(), []
        for index in indices:
            utt_id = self.data_ids[index]
            row = {**self.data[utt_id], "repetition": times[index]}
            items.append(self.pipeline.compute_outputs({"id": utt_id, **row}))
            times[index] += 1
        return items


def dataio_prep(hparams):
    """The datasets: random crops of the training speakers, and middle crops of
    the held-out ones; the encoder of the training speakers' classes, and the
    speaker of each training utterance."""
    train = _training_utterances(hparams)
    valid = read_manifest(hparams["valid_annotation"])
    digests = {"training": digest_of(train), "validation": digest_of(valid)}
    run_on_main(keep_to, [hparams["save_folder"], "data", digests])
    train = copies_at_speeds(train, hparams["speeds"])
    train_data, valid_data = (
        UtteranceDataset({u.ID: {**vars(u), "repetition": 0} for u in rows})
        for rows in (train, copies_at_speeds(valid, [1.0]))
    )

    def crop(seconds, is_random, utt_id, wav, start, stop, speed, repetition):
        rate, draw = hparams["sample_rate"], None
        # The position depends on the seed, the epoch and the utterance, so
        # neither the number of workers nor an interruption changes it.
        if is_random:
            epoch = hparams["epoch_counter"].current
            draw = f"{hparams['seed']} {epoch} {utt_id}"
            draw += f" {repetition}" if repetition else ""
        length = int(seconds * rate)
        return read_crop(wav, start, stop, length, draw, rate, speed)

    # Who goes on from a checkpoint has the same utterances, in the same order.
    speakers = [utterance.spk_id for utterance in train]
    label_encoder = sb.dataio.encoder.CategoricalEncoder()
    label_encoder.update_from_iterable(speakers)
    label_encoder.ignore_len()  # train() compares it with out_n_neurons
    label_file = os.path.join(hparams["save_folder"], "label_encoder.txt")
    run_on_main(label_encoder.save, [label_file])

    def label(spk_id):
        return label_encoder.encode_sequence_torch([spk_id])

    takes = ["id", "wav", "start", "stop", "speed", "repetition"]
    randomly = functools.partial(crop, hparams["sentence_len"], True)
    in_the_middle = functools.partial(crop, hparams["valid_len"], False)
    train_data.add_dynamic_item(randomly, takes, "sig")
    train_data.add_dynamic_item(label, "spk_id", "spk_id_encoded")
    train_data.set_output_keys(["id", "sig", "spk_id_encoded"])
    valid_data.add_dynamic_item(in_the_middle, takes, "sig")
    # The held-out speakers are no classes.
    valid_data.set_output_keys(["id", "sig", "spk_id"])

    return train_data, valid_data, label_encoder, speakers


def _training_utterances(hparams):
    """Those of the manifest that the table ``without``, if any, leaves in."""
    utterances = read_manifest(hparams["train_annotation"])
    path = hparams.get("without")
    if path is None:
        return utterances
    named = {name for _, (name,) in read_table(path, ["utterance"])}
    kept = [u for u in utterances if u.ID not in named]
    n, n_left_out = len(utterances), len(utterances) - len(kept)
    if named and not n_left_out:
        raise UserError(
            f"without={path}: none of its {len(named)} utterances is among "
            f"the training's; the first are {min(named)} there and "
            f"{utterances[0].ID} here"
        )
    logger.info(f"{path}: {n_left_out} of {n} utterances left out")
    return kept


def spread_values(hparams):
    """What a speaker's utterances in a batch are to differ in: ``spread_over``,
    if any, names a column of ``train_annotation`` or, where there is one, of
    ``metadata``."""
    column = hparams.get("spread_over")
    if column is None:
        return None
    path = hparams.get("metadata")
    if path is None:
        known = read_column(hparams["train_annotation"], column)
    else:
        # IDs are the paths below wav/, with -- for /.
        rows = read_metadata(path, [column]).items()
        known = {name.replace("/", "--"): row[column] for name, row in rows}
    values = []
    for u in _training_utterances(hparams):
        if u.ID not in known and u.spk_id not in known:
            raise UserError(
                f"{path}: spread_over={column}: neither the utterance "
                f"{u.ID.replace('--', '/')} nor the speaker {u.spk_id} is there"
            )
        values.append(known.get(u.ID, known.get(u.spk_id)))
    # copies_at_speeds repeats all rows, speed by speed.
    return values * len(hparams["speeds"])


@dataclasses.dataclass(frozen=True)
class UtteranceAtSpeed(Utterance):
    """An utterance to be played faster or slower; 1 plays it as it is."""

    speed: float


def copies_at_speeds(utterances, speeds):
    """Each utterance at each speed. Played faster or slower, a voice has other
    formants: it is another speaker (Yamamoto et al., Interspeech 2019)."""
    if not (
        isinstance(speeds, list)
        and all(isinstance(s, int | float) and 0.5 <= s <= 2 for s in speeds)
        and 0 < len(speeds) == len(set(speeds))
    ):
        raise UserError(
            f"speeds={speeds!r}: a list of different factors from 0.5 to 2, "
            "such as [0.9, 1.0, 1.1]"
        )
    found = []
    for speed in speeds:
        mark = "" if speed == 1 else f"@{speed:g}"
        for u in utterances:
            named = {"ID": u.ID + mark, "spk_id": u.spk_id + mark}
            found.append(UtteranceAtSpeed(**{**vars(u), **named}, speed=speed))
    return found


def read_crop(wav, start, stop, length, draw=None, rate=None, speed=1.0):
    """``length`` samples of one utterance, float32, and no more of the file; a
    shorter one is repeated. ``draw`` seeds the random position: equal texts
    give equal crops in any loader worker; None takes the middle. ``rate`` is
    what the file must have, Hz; at a ``speed`` above 1 the voice is faster and
    higher."""
    if speed != 1:
        more = math.ceil(length * speed) + 1
        crop = read_crop(wav, start, stop, more, draw, rate)
        return _resampler(round(rate * speed), rate)(crop)[:length]
    wanted = min(length, stop - start)
    spare = stop - start - wanted
    middle = draw is None
    first = spare // 2 if middle else random.Random(draw).randint(0, spare)
    first += start
    try:
        samples, found = soundfile.read(
            wav, wanted, first, dtype="float32", always_2d=True
        )
    except Exception as error:
        # Whatever the audio library raises, the user needs the file's name.
        raise UserError(f"{wav}: cannot be read ({error})") from error
    crop = torch.from_numpy(samples)
    crop = crop[:, 0] if crop.shape[1] == 1 else crop.mean(1)
    changed = ""
    if rate not in (None, found):
        changed = f"{found} Hz instead of {rate}"
    elif len(crop) < wanted:
        changed = "shorter"
    elif not crop.any() and not soundfile.read(wav)[0].any():
        changed = "silent"
    if changed:
        raise UserError(
            f"{wav}: it has changed since the preparation ({changed}); train "
            "without --skip_prep to prepare anew"
        )
    # NaN and infinity outlive a sum, which costs a tenth of looking at each.
    if not len(crop) or not math.isfinite(crop.sum()):
        raise UserError(
            f"{wav}: samples {first} to {first + length} are empty or not "
            'finite; prepare the data with check_audio: "full"'
        )
    if len(crop) < length:
        crop = crop.repeat(-(-length // len(crop)))[:length]
    return crop


@functools.cache
def _resampler(from_rate, to_rate):
    return torchaudio.transforms.Resample(from_rate, to_rate)
