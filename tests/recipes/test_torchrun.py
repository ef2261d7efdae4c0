"""The recipe on two processes, as torchrun starts them."""

import subprocess
import sys

import pytest
import torch
from commands import RECIPE, ROOT, SMALL, read_rows, within, without

# The recipe's own script, whose Brain notes what each process does.
SCRIPT = f"""
import sys

import torch

sys.path[:0] = [{str(ROOT)!r}, {str(RECIPE)!r}]
import train_speaker_embeddings
from speechbrain_scl import brain, distributed

torch.set_num_threads(1)
notes = {{"batches": [], "weights": []}}


class Noting(brain.SupConSpeakerBrain):
    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        labels = batch.spk_id_encoded.data.flatten().tolist()
        notes["batches"].append((self.epoch, batch.id, labels))
        log = self.hparams.objective.log
        notes["weights"].append(float(log["weight_contrastive"]))

    def on_stage_end(self, stage, stage_loss, epoch=None):
        super().on_stage_end(stage, stage_loss, epoch)
        notes["random"] = torch.get_rng_state()
        if stage.name == "VALID":
            notes["valid"] = len(self.error_stats.speakers)
            notes["stats"] = self.train_stats
            notes["parameters"] = [*map(torch.clone, self.parameters)]
            torch.save(notes, sys.argv[-1] + f"/{{distributed.rank()}}.pt")


train_speaker_embeddings.SupConSpeakerBrain = Noting
train_speaker_embeddings.main(sys.argv[1:-1])
"""
# Batch normalisation cannot be synchronised on the CPU.
ENCODER = """embedding_model: !new:speechbrain.nnet.containers.Sequential
    frame: !new:speechbrain.nnet.linear.Linear
        input_size: !ref <n_mels>
        n_neurons: 16
    activation: !new:torch.nn.LeakyReLU
    pooling: !new:speechbrain.nnet.pooling.StatisticsPooling
    segment: !new:speechbrain.nnet.linear.Linear
        input_size: 32
        n_neurons: !ref <emb_dim>

"""


@pytest.fixture(scope="module")
def left(corpus, tmp_path_factory):
    """What two processes noted in two epochs, and their output folder."""
    folder = tmp_path_factory.mktemp("torchrun")
    small = (RECIPE / SMALL[0]).read_text(encoding="utf-8")
    small = without("embedding_model", small) + ENCODER
    (folder / "hparams.yaml").write_text(small)
    (folder / "script.py").write_text(SCRIPT)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc_per_node=2", folder / "script.py"),
        *(folder / "hparams.yaml", *SMALL[1:-1]),
        *("--distributed_backend=gloo", "--device=cpu"),
        *("--utterances_per_speaker=2", "--speakers_per_batch=2"),
        *(*within(corpus, folder / "out"), folder),
    ]
    done = subprocess.run(
        command, cwd=RECIPE, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [
        torch.load(folder / f"{rank}.pt") for rank in (0, 1)
    ], folder / "out"


def test_the_processes_agree(left):
    """On parameters, balancing weights, labels and means; not on draws."""
    ranks, output = left
    assert all(map(torch.equal, *(r["parameters"] for r in ranks)))
    weights = ranks[0]["weights"]
    assert weights == ranks[1]["weights"]
    assert len(set(weights)) > 1 and all(0 < w < 1 for w in weights)
    pairs = {pair for r in ranks for _, *b in r["batches"] for pair in zip(*b)}
    assert len(pairs) == len(dict(pairs))  # one label of each utterance
    means = [dict(r["stats"]) for r in ranks]
    for part in means:
        del part["loss"]  # SpeechBrain's own, of one process
    assert means[0] == means[1]
    assert not torch.equal(ranks[0]["random"], ranks[1]["random"])
    assert len((output / "train_log.txt").read_text().splitlines()) == 2


def test_every_batch_goes_to_one_process(left):
    """Each epoch's batches are dealt out, with a speaker's utterances; all
    validation utterances count."""
    ranks, output = left
    train, valid = (
        len(read_rows(output / "save" / f"{name}.csv"))
        for name in ("train", "valid")
    )
    for epoch in (1, 2):
        shards = [
            [tuple(ids) for e, ids, _ in r["batches"] if e == epoch]
            for r in ranks
        ]
        assert len(shards[0]) == len(shards[1]) > 1
        batches = [*shards[0], *shards[1]]
        assert len({u for b in batches for u in b}) == train
        assert len(set(batches)) == len(batches)
        for ids in batches:
            a, b, c, d = [utterance.split("--")[0] for utterance in ids]
            assert a == b != c == d
    assert [r["valid"] for r in ranks] == [valid] * 2
