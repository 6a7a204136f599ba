"""Workers on Ray: two against one, what the engine costs, and kills of workers and drivers.

    python benchmarks/cluster.py scaling            # trunks and fetches that sleep, so that processors are no limit
    python benchmarks/cluster.py kills [RUNS] [S3]  # one worker and one driver are killed in each run

Each ends with a table in Markdown. Ray listens on the loopback address alone.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from regraft.caches.build_progress import progress_in
from regraft.caches.ray_workers import Ray
from regraft.caching import cache_features
from regraft.cuts.cut import Cut, Leaf
from regraft.splitting import FeatureComputer
from regraft.stores.places import place_of

WIDTH, BATCH = 64, 8
JOBS = (("trunk 20 ms a row", 0.020, 0.0), ("fetch 20 ms a row", 0.0, 0.020))


class Sleeping(FeatureComputer):
    """A trunk that sleeps for each row."""

    def __init__(self, row_s: float) -> None:
        self.row_s = row_s
        self.cut = Cut((Leaf("double", (WIDTH,), torch.float32, 4 * WIDTH, ()),), work_saved=1.0)

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        time.sleep(self.row_s * len(inputs))
        return {"double": 2 * inputs}

    def describe(self) -> dict:
        return {"module": "sleeping"}

    def frozen_tensors(self) -> dict[str, Tensor]:
        return {}


class Slow(Dataset):
    """Inputs that take time to fetch; the process that fetches the one at `fatal` is killed, once."""

    def __init__(self, count: int, row_s: float, fatal: int | None = None, marker: str = "") -> None:
        self.count, self.row_s, self.fatal, self.marker = count, row_s, fatal, marker

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(self.row_s)
        if index == self.fatal and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((WIDTH,), float(index)), index % 3


def built(store: str, engine: Ray | str, data: Slow, trunk_s: float) -> int:
    """Rows that this process has computed."""
    return cache_features(Sleeping(trunk_s), data, store, batch_size=BATCH, data_id="sleep", engine=engine).computed


def digest(store: str) -> str:
    """Of the names and contents of all files of features."""
    place, total = place_of(store), hashlib.sha256()
    for key in place.names():
        for name in place.names(f"{key}/parts"):
            if name.endswith(".safetensors"):
                total.update(name.encode() + place.read(f"{key}/parts/{name}"))
    return total.hexdigest()[:12]


def scaling(count: int = 2048) -> None:
    """Wall time of one and of two workers; of the work alone, and with the start of the workers."""
    print("| job | workers | rows/s at work | with the start of workers | speed-up |\n|---|---|---|---|---|")
    with Ray(workers=2).connected():
        for name, trunk_s, fetch_s in JOBS:
            alone = 0.0
            for workers in (1, 2):
                with tempfile.TemporaryDirectory() as store:
                    began = time.perf_counter()
                    computed = built(store, Ray(workers=workers), Slow(count, fetch_s), trunk_s)
                    whole = time.perf_counter() - began
                    assert computed == 0, "workers have computed all rows"
                    (build,) = progress_in(store)
                    work = max(worker.seconds for worker in build.workers)
                alone = alone or work
                print(
                    f"| {name} | {workers} | {count / work:.0f} | {count / whole:.0f} | {alone / work:.2f}× |",
                    flush=True,
                )


def kills(runs: int = 10, root: str = "") -> None:
    """Kill a worker and the driver in each run; the bytes are those of a build that nothing disturbs."""
    rng, folder = random.Random(0), tempfile.mkdtemp()
    count = 512
    reference = root + "/reference" if root else f"{folder}/reference"
    built(reference, "exact", Slow(count, 0.0), 0.0)
    expected, same, again = digest(reference), 0, []
    with Ray(workers=4).connected():
        import ray

        address = ray.get_runtime_context().gcs_address
        for run in range(runs):
            store, marker = root + f"/run{run}" if root else f"{folder}/run{run}", f"{folder}/marker{run}"
            command = [
                sys.executable,
                __file__,
                "driver",
                store,
                address,
                str(count),
                str(rng.randrange(count)),
                marker,
            ]
            driver = subprocess.Popen(command)
            wait_for(store, rng.randrange(1, 40), driver)
            driver.kill()
            driver.wait()
            subprocess.run(command, check=True)  # the second driver goes on
            place = place_of(store)
            (key,) = place.names()
            leases = [name for name in place.names(f"{key}/leases") if name.endswith(".lock")]
            result = digest(store)
            same += result == expected and not leases and Path(marker).exists()
            rows = built(store, "exact", Slow(count, 0.0), 0.0)
            again.append(rows)
            print(
                f"run {run}: {result} {'=' if result == expected else '!'} {expected}, leases left {leases}", flush=True
            )
    print(f"\n{same} of {runs} runs, each with a worker and its driver killed: the same bytes, no lease left, and "
          f"{sum(again)} rows left to compute")  # fmt: skip


def wait_for(store: str, parts: int, driver: subprocess.Popen) -> None:
    """Return when so many parts are committed, or the driver has ended."""
    place = place_of(store)
    while driver.poll() is None:
        committed = [name for key in place.names() for name in place.names(f"{key}/parts") if name.endswith(".json")]
        if len(committed) >= parts:
            return
        time.sleep(0.05)


if __name__ == "__main__":
    what, *given = sys.argv[1:] or ["scaling"]
    if what == "driver":
        store, address, count, fatal, marker = given
        built(store, Ray(workers=2, address=address), Slow(int(count), 0.004, int(fatal), marker), 0.002)
    elif what == "kills":
        kills(int(given[0]) if given else 10, *given[1:])
    else:
        scaling()
