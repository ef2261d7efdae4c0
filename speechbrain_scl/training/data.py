"""The data of a training: rows of the manifests to crops with labels."""

import os
from collections import Counter

import speechbrain as sb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.logger import get_logger
from speechbrain_scl.data.manifest import read_column, read_manifest
from speechbrain_scl.data.tables import read_table
from speechbrain_scl.errors import UserError
from speechbrain_scl.evaluation.conditions import read_metadata
from speechbrain_scl.training.crops import copies_at_speeds, read_crop
from speechbrain_scl.training.folder import digest_of, has_checkpoint, keep_to

logger = get_logger(__name__)


class UtteranceDataset(DynamicItemDataset):
    """Utterances, of which a batch may hold one more than once.

    Items that take ``repetition`` (0 for the first time in a batch, then 1,
    ...) tell them apart: the same crop twice would be a positive pair that says
    nothing.
    """

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
    """Creates the datasets and their data processing pipelines.

    Returns random crops of the training speakers, middle crops of the held-out
    ones, the encoder of the training speakers' classes, and the speaker of each
    training utterance.
    """
    train = _training_utterances(hparams)
    valid = read_manifest(hparams["valid_annotation"])
    digests = {"training": digest_of(train), "validation": digest_of(valid)}
    run_on_main(keep_to, [hparams["save_folder"], "data", digests])
    train = copies_at_speeds(train, hparams["speeds"])
    train_data, valid_data = (
        UtteranceDataset({u.ID: {**vars(u), "repetition": 0} for u in rows})
        for rows in (train, valid)
    )
    rate = hparams["sample_rate"]

    # The position of a crop depends on the seed, the epoch and the utterance,
    # so neither the number of workers nor an interruption changes it.
    @sb.utils.data_pipeline.takes(
        "id", "wav", "start", "stop", "speed", "repetition"
    )
    @sb.utils.data_pipeline.provides("sig")
    def random_crop(utt_id, wav, start, stop, speed, repetition):
        draw = f"{hparams['seed']} {hparams['epoch_counter'].current} {utt_id}"
        if repetition:
            draw += f" {repetition}"
        length = int(hparams["sentence_len"] * rate)
        return read_crop(wav, start, stop, length, draw, rate, speed)

    @sb.utils.data_pipeline.takes("wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def middle_crop(wav, start, stop):
        length = int(hparams["valid_len"] * rate)
        return read_crop(wav, start, stop, length, rate=rate)

    label_encoder = sb.dataio.encoder.CategoricalEncoder()

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("spk_id_encoded")
    def label_pipeline(spk_id):
        return label_encoder.encode_sequence_torch([spk_id])

    train_data.add_dynamic_item(random_crop)
    train_data.add_dynamic_item(label_pipeline)
    train_data.set_output_keys(["id", "sig", "spk_id_encoded"])
    valid_data.add_dynamic_item(middle_crop)
    # The held-out speakers are no classes.
    valid_data.set_output_keys(["id", "sig", "spk_id"])

    speakers = [utterance.spk_id for utterance in train]
    label_file = os.path.join(hparams["save_folder"], "label_encoder.txt")
    run_on_main(_write_labels, [label_file, speakers])
    label_encoder.load(label_file)
    label_encoder.ignore_len()  # train() compares it with out_n_neurons
    if set(speakers) != set(label_encoder.lab2ind):
        raise UserError(
            f"{hparams['train_annotation']} has other speakers than "
            f"{label_file}, where this output folder's classes are: choose "
            "another output_folder, or delete it to train anew"
        )
    return train_data, valid_data, label_encoder, speakers


def _training_utterances(hparams):
    """Those of the manifest that the table ``without``, if any, leaves in."""
    utterances = read_manifest(hparams["train_annotation"])
    path = hparams.get("without")
    if path is None:
        return utterances
    named = {name for _, (name,) in read_table(path, ["utterance"])}
    kept = [u for u in utterances if u.ID not in named]
    if named and len(kept) == len(utterances):
        raise UserError(
            f"without={path}: none of its {len(named)} utterances is among "
            f"the training's; the first are {min(named)} there and "
            f"{utterances[0].ID} here"
        )
    n, n_left_out = len(utterances), len(utterances) - len(kept)
    logger.info("%s: %d of %d utterances left out", path, n_left_out, n)
    return kept


def _write_labels(label_file, speakers):
    """Numbers the speakers once for the checkpoints of a folder."""
    folder = os.path.dirname(label_file)
    if not (os.path.exists(label_file) and has_checkpoint(folder)):
        label_encoder = sb.dataio.encoder.CategoricalEncoder()
        label_encoder.update_from_iterable(speakers)
        # A kill in the middle must not leave half of them.
        label_encoder.save(f"{label_file}.aside")
        os.replace(f"{label_file}.aside", label_file)


def spread_values(hparams):
    """What a speaker's utterances in a batch are to differ in.

    ``spread_over`` names a column of ``train_annotation`` or, where one is
    given, of ``metadata``; None where it does not.
    """
    column = hparams.get("spread_over")
    if column is None:
        return None
    utterances = _training_utterances(hparams)
    if hparams.get("metadata") is None:
        in_manifest = read_column(hparams["train_annotation"], column)
        values = [in_manifest[u.ID] for u in utterances]
    else:
        rows = read_metadata(hparams["metadata"], [column])
        # IDs are the paths below wav/, with -- for /.
        known = {name.replace("/", "--"): row for name, row in rows.items()}
        values = []
        for u in utterances:
            row = known.get(u.ID) or known.get(u.spk_id)
            if row is None:
                raise UserError(
                    f"{hparams['metadata']}: spread_over={column}: neither "
                    f"the utterance {u.ID.replace('--', '/')} nor the speaker "
                    f"{u.spk_id} is there"
                )
            values.append(row[column])
    # copies_at_speeds repeats all rows, speed by speed.
    return values * len(hparams["speeds"])
