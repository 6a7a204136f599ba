"""W7: growth of time and memory from 1,000 to 10,000 and 100,000 small examples, in a folder store.

    python benchmarks/w7_growth.py

An exponent is the slope of log(seconds) over log(examples), by least squares: 1 is linear, 0 is flat. Every size runs
in its own process. The inputs are computed on demand, so the measured memory is that of regraft. The store may keep
nothing in memory, so every size is streamed.
"""

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from harness import Goal, Table, asked_rounds, report
from streaming import Peak, forked, resident
from torch import nn

import regraft
from regraft.examples import Examples
from regraft.stores.folder import FolderStore

SIZES, WIDTH, CLASSES = (1_000, 10_000, 100_000), 256, 10


class Made(Examples):
    """Examples that are not stored: each is computed from its index."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def gather(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.outer(indices.double(), torch.arange(1, 65).double().sqrt()).sin()
        return rows.float(), indices % CLASSES


def grown(count: int) -> tuple[float, float, float]:
    """Seconds of the feature pass, seconds of an epoch, and bytes of memory more than at the start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    regraft.freeze(model, "0")
    trunk, head = regraft.split(model, torch.randn(2, 64))
    few = regraft.cache_features(trunk, Made(200))
    solver = regraft.Steps(optimizer="sgd", batch_size=100, epochs=2)
    regraft.train(head, few, solver=solver)  # libraries take memory when first used
    base = resident()
    with tempfile.TemporaryDirectory() as folder, Peak() as peak:
        began = time.perf_counter()
        features = regraft.cache_features(trunk, Made(count), FolderStore(Path(folder), memory_bytes=0))
        feature_s = time.perf_counter() - began
        history = regraft.train(head, features, solver=solver)
    return feature_s, history.seconds[-1], peak.bytes - base


def exponent(values: list[float]) -> float:
    """The slope of log(value) over log(size)."""
    return float(np.polyfit(np.log(SIZES), np.log(values), 1)[0])


def main() -> None:
    rounds = []
    for _ in range(asked_rounds() or 3):
        columns = zip(*[forked(lambda size=size: grown(size)) for size in SIZES], strict=True)
        rounds.append([list(column) for column in columns])
    feature_s, epoch_s, extra = ([values[column] for values in rounds] for column in range(3))
    samples = {
        "feature pass": [exponent(values) for values in feature_s],
        "epoch": [exponent(values) for values in epoch_s],
        "memory": [exponent(values) for values in extra],
    }
    page_cache = (
        "the id and position of each example stay in memory (about 100 bytes), and the pages of mapped files count "
        "although the system may release them. A store that keeps the ids on the disk would be flat."
    )
    fixed = "few examples take milliseconds, which depend more on the load of the machine than on their number."
    goals = [
        Goal("linear: at most 1.1", "feature pass", most=1.1, limit=fixed),
        Goal("linear: at most 1.1", "epoch", most=1.1, limit=fixed),
        Goal("flat: at most 0.2", "memory", most=0.2, limit=page_cache),
    ]
    notes = [
        f"{size:,} examples: features {median(values[index] for values in feature_s):.3g} s, an epoch "
        f"{median(values[index] for values in epoch_s):.3g} s, "
        f"{median(values[index] for values in extra) / 2**20:.0f} MiB more than at the start "
        f"for {4 * WIDTH * size / 2**20:.0f} MiB of features."
        for index, size in enumerate(SIZES)
    ]
    notes.append(f"Streamed (memory_bytes = 0), one torch thread, {os.cpu_count()} cores.")
    report([Table("W7: growth from 1,000 to 100,000 examples", "exponent", samples, goals, notes=notes)])


if __name__ == "__main__":
    main()
