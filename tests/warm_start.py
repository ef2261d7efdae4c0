"""Runs scripts, each in a process of its own that has its imports already.

Most of a command of a few seconds goes into importing PyTorch, SpeechBrain and
this package. Here one process imports them and copies itself for each script.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager

# What scripts and their yaml files name, and what those load where they need it
PRELOADED = [
    "speechbrain_scl.brain",
    "speechbrain_scl.command_line.speakers",
    "speechbrain_scl.evaluation.validation",
    "speechbrain_scl.evaluation.verification",
    "speechbrain_scl.losses",
    "speechbrain_scl.training.run",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "sklearn.linear_model",
    "torch._dynamo",
]


def spare_descriptions():
    """For env.log SpeechBrain asks pip what is installed: most of a second."""
    from speechbrain.utils import logger

    logger.get_environment_description = str


def main():
    """Reads one script per line; writes how it ended."""
    for name in PRELOADED:
        importlib.import_module(name)
    spare_descriptions()
    gc.freeze()  # what is shared stays so
    for line in sys.stdin:
        job = json.loads(line)
        children = []
        for rank in range(job["processes"]):
            if not (child := os.fork()):
                return become(rank, **job)
            children.append(child)
        ends = [os.waitpid(child, 0)[1] for child in children]
        print(max(map(os.waitstatus_to_exitcode, ends), key=abs), flush=True)


def become(rank, command, folder, stdout, stderr, timeout, processes, port):
    """From here on this is the script's process, of one or as torchrun's."""
    signal.alarm(timeout)
    for number, path in enumerate((os.devnull, stdout, stderr)):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(path, flags), number)
    if processes > 1:
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(processes)}
    os.chdir(folder)
    script = command[0]
    sys.argv = command
    sys.path[0] = os.path.dirname(os.path.realpath(script))
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # To take the interpreter down would copy all that it shares: over a second.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


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

        def run(*command, folder, processes=1):
            command = list(map(str, command))
            with socket.create_server(("localhost", 0)) as free:
                port = free.getsockname()[1]
            job = {"command": command, "folder": str(folder), "timeout": 300}
            job |= {"processes": processes, "port": port}
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
