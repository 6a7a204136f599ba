"""How many threads share a step: as many as its work can use, since the threads of a small step wait for each other.

torch shares every operation among all cores. On a busy machine each of them then waits until the slowest thread has had
its turn: beside eight other processes, steps of 0.03 to 0.5 · 10⁹ operations took 13 to 31 times as long on two threads
as on one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Floating-point operations of a step for each thread: some 10 ms. The number of threads then depends on the step alone,
# on every machine that has so many cores: kernels may round by it.
WORK_OF_A_THREAD = 5e8
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

_AT_THE_START = torch.get_num_threads()


def chosen_by_user() -> bool:
    """Whether the number of threads is another one than torch chooses: by `torch.set_num_threads` or a variable."""
    return torch.get_num_threads() != _AT_THE_START or any(os.environ.get(name) for name in VARIABLES)


def threads_of(work: float) -> int:
    """The threads for a step of so many floating-point operations; the user's own number stays.

    work  `math.inf` where nobody knows it: all threads
    """
    present = torch.get_num_threads()
    return present if chosen_by_user() else max(1, int(min(present, work / WORK_OF_A_THREAD)))


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Let torch compute in `threads_of(work)` threads meanwhile; afterwards in as many as before."""
    before, threads = torch.get_num_threads(), threads_of(work)
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
