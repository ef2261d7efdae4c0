#!/usr/bin/env python3
"""Trains speaker embeddings on CN-Celeb with the margin-contrastive objective:
AAM-softmax classification and supervised contrast with an angular margin and
class-aware attention, balanced by their gradients.

To run this recipe, use the following command:
> python train_speaker_embeddings.py hparams/ecapa_scl.yaml --data_folder=/path/to/CNCeleb

Reference
    Li, Mak, Meng, "Discriminative speaker representation via contrastive
    learning with class-aware attention in angular space", ICASSP 2023
    (arXiv 2210.16622).
"""

import sys

import speechbrain as sb
from speechbrain.utils.distributed import ddp_init_group, run_on_main
from speechbrain_scl.brain import SupConSpeakerBrain
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.distributed import leave_process_group
from speechbrain_scl.errors import user_errors_in_one_line
from speechbrain_scl.training.folder import run_folder
from speechbrain_scl.training.run import train


def main(arguments):
    """Prepares the data, trains, and leaves the inference folder."""
    hparams, run_opts, hparams_file, overrides = read_experiment(
        arguments, "hparams/ecapa_scl.yaml"
    )
    ddp_init_group(run_opts)
    # Dataset prep (parsing CN-Celeb and annotation into csv files)
    from cnceleb_prepare import prepare_cnceleb  # noqa

    with run_folder(hparams, run_opts, hparams_file, overrides):
        sb.core.create_experiment_directory(
            experiment_directory=hparams["output_folder"],
            hyperparams_to_save=hparams_file,
            overrides=overrides,
        )

        run_on_main(
            prepare_cnceleb,
            kwargs={
                "cnceleb1_folder": hparams["cnceleb1_folder"],
                "cnceleb2_folder": hparams["cnceleb2_folder"],
                "save_folder": hparams["save_folder"],
                "valid_speakers": hparams["valid_speakers"],
                "min_duration": hparams["min_duration"],
                "joined_duration": hparams["joined_duration"],
                "check_audio": hparams["check_audio"],
                "max_excluded": hparams["max_excluded"],
                "strict": hparams["strict"],
                "seed": hparams["seed"],
                "skip_prep": hparams["skip_prep"],
            },
        )
        train(SupConSpeakerBrain, hparams, run_opts, hparams_file, overrides)
    leave_process_group()


if __name__ == "__main__":
    with user_errors_in_one_line():
        main(sys.argv[1:])
