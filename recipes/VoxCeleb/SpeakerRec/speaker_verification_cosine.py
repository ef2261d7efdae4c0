#!/usr/bin/env python3
"""Speaker verification by the cosine of two embeddings, on any corpus.

To run this recipe, use the following command in its folder:
> python speaker_verification_cosine.py --data_folder=/path/to/VoxCeleb1
> python speaker_verification_cosine.py --corpus=/path/to/CN-Celeb_flac
> python speaker_verification_cosine.py --corpus=/path/to/TidyVoice

Without a yaml file it uses hparams/verification_ecapa_scl.yaml, which scores
the encoder that train_speaker_embeddings.py hparams/ecapa_scl.yaml left.
"""

import sys

import speechbrain as sb
from speechbrain.utils.distributed import ddp_init_group
from speechbrain_scl.command_line.experiment import read_experiment
from speechbrain_scl.distributed import leave_process_group
from speechbrain_scl.errors import user_errors_in_one_line
from speechbrain_scl.evaluation.results import table
from speechbrain_scl.evaluation.verification import verify


def main(arguments):
    """Embeds, scores, measures and reports."""
    params, run_opts, params_file, overrides = read_experiment(
        arguments, "hparams/verification_ecapa_scl.yaml"
    )
    ddp_init_group(run_opts)
    output = params["output_folder"]
    sb.core.create_experiment_directory(
        experiment_directory=output,
        hyperparams_to_save=params_file,
        overrides=overrides,
    )
    metrics = verify(params, run_opts)
    if metrics:  # the main process
        print(
            f"\n{table(metrics)}\n\nScores, figures and report.html: {output}"
        )
    leave_process_group()


if __name__ == "__main__":
    with user_errors_in_one_line():
        main(sys.argv[1:])
