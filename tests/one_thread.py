"""One thread for each worker of pytest-xdist, imported before torch.

Workers share the processors, and torch's threads spin while they wait for each other: two workers with two threads each
on two processors take more than twice the processor time.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # child processes inherit it
