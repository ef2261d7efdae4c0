"""Runs scripts, each in a process of its own that has its imports already.

Most of a command of a few seconds goes into importing PyTorch, SpeechBrain and
this package. Here one process imports them and copies itself for each script.
"""

import json
import os
import runpy
import signal
import sys


def main():
    """Reads one script per line; writes how it ended."""
    import speechbrain_scl.brain
    import speechbrain_scl.evaluation.verification
    import speechbrain_scl.training.run  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        if not (child := os.fork()):
            return become(**job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(command, folder, stdout, stderr, timeout):
    """From here on this is the script's process."""
    signal.alarm(timeout)
    for number, path in enumerate((os.devnull, stdout, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(folder)
    script = command[0]
    sys.argv = command
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
