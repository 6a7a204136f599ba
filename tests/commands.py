"""The command line in a process of its own, as a shell runs it."""

import subprocess
import sys


def regraft(*words, cwd=None):
    """The finished command."""
    return subprocess.run(
        [sys.executable, "-m", "regraft", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=900
    )
