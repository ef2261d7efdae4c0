"""Known noise is dropped, and nothing else."""

import logging

from speechbrain_scl.command_line.console import silence_known_noise


def test_only_the_known_messages_are_dropped(caplog):
    silence_known_noise()
    silence_known_noise()
    schedules = logging.getLogger("speechbrain.nnet.schedulers")
    assert len(schedules.filters) == 1
    with caplog.at_level(logging.INFO):
        schedules.info("Changing lr from 0.1 to 0.09")
        schedules.info("another message")
        logging.getLogger("speechbrain.utils.quirks").info(
            "Applied quirks (see ...): [%s]", "allow_tf32"
        )
        logging.getLogger("torch.utils.cpp_extension").error("CUDA_HOME: no")
    assert [r.getMessage() for r in caplog.records] == [
        "another message",
        "CUDA_HOME: no",
    ]
