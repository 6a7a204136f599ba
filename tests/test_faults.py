"""A handful of what `benchmarks/faults.py` does two hundred times."""

import os
import subprocess
import sys
from pathlib import Path


def test_nothing_wrong_is_ever_served():
    """Killed, flipped, cut, full, read-only, many at once: byte-identical or refused by name."""
    bench = Path(__file__).parents[1] / "benchmarks" / "faults.py"
    done = subprocess.run(
        [sys.executable, bench, "--kills", "4", "--flips", "6", "--others", "1", "--no-page"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "SIGKILL" in done.stdout
