"""Two and four workers on one store against one, where reading an input and computing it only sleep.

    python benchmarks/builders.py

What is measured is the structure of the work, not the machine's cores.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from regraft.caches.options import Engine, Share
from regraft.caching import fill_features
from regraft.cuts.cut import Cut, Leaf
from regraft.splitting import FeatureComputer

BATCH = 16


class SleepingTrunk(FeatureComputer):
    """Features that take some milliseconds a row."""

    def __init__(self, row_s: float) -> None:
        self.row_s = row_s
        self.cut = Cut((Leaf("x", (4,), torch.float32, 16),), work_saved=1.0)

    def __call__(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        time.sleep(self.row_s * len(inputs))
        return {"x": inputs}

    def describe(self) -> dict:
        return {"module": "sleeping"}

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        return {}


class SleepingData(torch.utils.data.Dataset):
    """Examples with names, that take some milliseconds to read; each read appends a byte to a file."""

    def __init__(self, count: int, row_s: float, log: Path) -> None:
        self.count, self.row_s, self.log = count, row_s, log

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(self.row_s)
        with self.log.open("ab", buffering=0) as file:
            file.write(b"x")
        return torch.full((4,), float(index)), 0

    def content_ids(self, indices=None) -> list[str]:
        return [f"example {index}" for index in (range(self.count) if indices is None else indices)]


def seconds(workers: int, count: int, trunk_s: float, fetch_s: float) -> tuple[float, int]:
    """Until the last of the workers has ended, and the reads of all."""
    with tempfile.TemporaryDirectory() as folder:
        log, started, pids = Path(folder) / "log", time.perf_counter(), []
        for number in range(workers):
            if pid := os.fork():
                pids.append(pid)
                continue
            engine = Engine(workers=1, share=Share(number, workers))
            data = SleepingData(count, fetch_s, log)
            fill_features(SleepingTrunk(trunk_s), data, Path(folder) / "store", batch_size=BATCH, engine=engine)
            os._exit(0)
        for pid in pids:
            os.waitpid(pid, 0)
        return time.perf_counter() - started, log.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2048)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, trunk_ms, fetch_ms in (("trunk-bound", 4, 1), ("balanced", 2, 2), ("fetch-bound", 1, 4)):
        alone, reads = seconds(1, options.rows, trunk_ms / 1e3, fetch_ms / 1e3)
        line = [f"{name} ({trunk_ms} ms trunk, {fetch_ms} ms fetch a row): 1 worker {alone:.1f} s, {reads} reads"]
        for workers in (2, 4):
            took, reads = seconds(workers, options.rows, trunk_ms / 1e3, fetch_ms / 1e3)
            line.append(f"{workers} workers {alone / took:.2f}x, {reads} reads")
        print("; ".join(line), flush=True)


if __name__ == "__main__":
    main()
