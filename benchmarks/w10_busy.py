"""W10: `regraft demo` on a machine with a load of eight, the demo itself included, against the same on an idle one.

    python benchmarks/w10_busy.py

Elapsed seconds. Each of the seven others keeps one core busy with Python, so on two cores the demo, which computes in
one thread, has a quarter of a core: four times its idle time is what sharing alone costs. Small steps that are shared
by threads take far longer, since the threads wait for each other.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Contender, Goal, report, take_turns

LOAD = 8
BUSY = "while True: pass"
LIMIT = "on two cores a quarter of one core is the fair share of one process of eight; what is more, waiting adds."


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def demo_s(load: int) -> float:
    """Elapsed seconds of the demo as one of so many busy processes."""
    with tempfile.TemporaryDirectory() as folder, busy(load - 1):
        began = time.perf_counter()
        command = [sys.executable, "-m", "regraft", "demo", "--out", str(Path(folder) / "demo")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def main() -> None:
    contenders = [Contender("idle", lambda: demo_s(1)), Contender(f"load {LOAD}", lambda: demo_s(LOAD))]
    goals = [Goal("at most 4× the idle time", f"load {LOAD}", "idle", most=4, limit=LIMIT)]
    report([take_turns("W10: the demo on a busy machine", "s", contenders, rounds=1, goals=goals, warm=False)])


if __name__ == "__main__":
    main()
