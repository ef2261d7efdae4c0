"""Runs scripts, each in a process of its own that has its imports already.

Most of a command of a few seconds goes into importing PyTorch, SpeechBrain and
this package. Here one process imports them and copies itself for each script.
"""

import json
import os
import runpy
import signal
import sys

import speechbrain_scl.evaluation.verification
import speechbrain_scl.training.run  # noqa: F401

for line in sys.stdin:
    job = json.loads(line)
    if not (child := os.fork()):
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()

# From here on this is the script's process.
signal.alarm(job["timeout"])
for number, path in enumerate((os.devnull, job["stdout"], job["stderr"])):
    os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
os.chdir(job["folder"])
script, *arguments = job["command"]
sys.argv = [script, *arguments]
sys.path[0] = os.path.dirname(os.path.abspath(script))
runpy.run_path(script, run_name="__main__")
