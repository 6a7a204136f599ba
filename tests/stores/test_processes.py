"""Processes by their number and their start."""

import os
import subprocess
import sys

from regraft.stores.processes import machine, started


def test_a_machine_is_the_same_for_all_its_processes():
    """And has a name in it that people know."""
    code = "from regraft.stores.processes import machine; print(machine())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert told.stdout.strip() == machine()


def test_a_process_that_runs_was_started_once():
    """One that has ended was not, even while its parent has not asked how."""
    assert started(os.getpid()) == started(os.getpid()) != ""
    assert started(2**22 + 1) == ""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert started(child) == ""
    os.waitpid(child, 0)
