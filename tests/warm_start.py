"""Runs scripts, each in a process of its own that has its imports already.

Most of a command of a few seconds goes into importing PyTorch, SpeechBrain and
this package. Here one process imports them and copies itself for each script.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager


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
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    runpy.run_path(script, run_name="__main__")


@contextmanager
def warm_runs(said, **environment):
    """A function that runs a script so, and returns the finished process."""
    with subprocess.Popen(
        [sys.executable, __file__],
        # The order of sums, and so the last bits, depend on the threads.
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:

        def run(*command, folder):
            command = list(map(str, command))
            job = {"command": command, "folder": str(folder), "timeout": 300}
            for name in ("stdout", "stderr"):
                job[name] = str(said / name)
                (said / name).unlink(missing_ok=True)
            print(json.dumps(job), file=process.stdin)
            code = int(process.stdout.readline())
            texts = ((said / n).read_text() for n in ("stdout", "stderr"))
            return subprocess.CompletedProcess(command, code, *texts)

        yield run


if __name__ == "__main__":
    main()
