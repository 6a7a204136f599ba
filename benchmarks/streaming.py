"""Measure epochs over a cache eight times as large as its memory limit: speed, resident memory, shuffling.

python benchmarks/streaming.py            writes docs/streaming.md
"""

import argparse
import datetime
import gc
import os
import pickle
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.caches.features import Features
from regraft.caching import cache_features
from regraft.cuts.cut import Cut, Leaf
from regraft.splitting import FeatureComputer
from regraft.stores.folder import FolderStore

WIDTH, CLASSES, BATCH = 512, 100, 256
PAGE = Path(__file__).parents[1] / "docs" / "streaming.md"
MARK = "<!-- measured by benchmarks/streaming.py -->"


class WideTrunk(FeatureComputer):
    """A frozen layer that turns eight numbers into 2 KiB."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(8, WIDTH).requires_grad_(False)
        self.cut = Cut((Leaf("hidden", (WIDTH,), torch.float32, 4 * WIDTH),), work_saved=1.0)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": self.layer(x)}

    def describe(self) -> dict:
        return {"module": "wide"}

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.layer.state_dict())


def features_of(folder: Path, count: int, memory_bytes: int) -> Features:
    """The features of a data set that is sorted by class."""
    inputs = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) * CLASSES // count
    store = FolderStore(folder, memory_bytes=memory_bytes)
    return cache_features(WideTrunk(), (inputs, labels), store, data_id="streaming")


def forked(work: Callable[[], Any]) -> Any:
    """The result of `work`, run in a forked process."""
    readable, writable = os.pipe()
    if not os.fork():
        with os.fdopen(writable, "wb") as file:
            pickle.dump(work(), file)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as file:
        result = pickle.load(file)
    os.wait()
    return result


def resident() -> int:
    """Bytes of this process in memory, including mapped files."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The largest resident memory while the block runs."""

    def __enter__(self) -> "Peak":
        self.bytes, self._stop = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def reading_epoch(features: Features, epoch: int) -> None:
    """Read every batch, and one value of it."""
    for _, inputs, _ in features.batches(BATCH, epoch=epoch):
        inputs["hidden"][0, 0].item()


class Training:
    """Epochs of a linear head in a plain loop."""

    def __init__(self) -> None:
        self.head = nn.Linear(WIDTH, CLASSES)
        self.optimizer = torch.optim.SGD(self.head.parameters(), lr=1e-3)

    def __call__(self, features: Features, epoch: int) -> None:
        for _, inputs, labels in features.batches(BATCH, epoch=epoch):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.head(inputs["hidden"]), labels).backward()
            self.optimizer.step()


def warm_up(training: Training) -> None:
    """Run everything once on a few rows: libraries allocate memory when they are first used."""
    with tempfile.TemporaryDirectory() as folder:
        features = features_of(Path(folder), 4 * BATCH, 0)
        reading_epoch(features, 0)
        training(features, 0)


def seconds_of(work: Callable[[], None]) -> tuple[float, float]:
    """Elapsed seconds, and CPU seconds of all threads."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def speeds(folder: Path, count: int, memory_bytes: int, epochs: int) -> dict[str, Any]:
    """The best seconds of an epoch, in memory and streamed, in turns."""
    torch.set_num_threads(1)
    training = Training()
    held, streamed = (features_of(folder, count, limit) for limit in (16 * count * WIDTH, memory_bytes))
    assert held.inputs is not None
    assert streamed.inputs is None
    reading_epoch(streamed, 0)  # checks every byte, and is not counted
    best = {}
    for name, work in (("read", reading_epoch), ("trained", training)):
        for epoch in range(epochs):
            for kind, features in (("held", held), ("streamed", streamed)):
                took = seconds_of(partial(work, features, epoch))
                best[name, kind] = tuple(map(min, zip(best.get((name, kind), took), took, strict=True)))
    return best


def memory(folder: Path, count: int, memory_bytes: int, *, limited: bool) -> dict[str, Any]:
    """Resident memory of this process after the features are opened, and its maximum in epochs of reading and training.

    limited  limit the process (RLIMIT_DATA) to `memory_bytes` more than it has after opening the features
    """
    torch.set_num_threads(1)
    training = Training()
    warm_up(training)
    start = resident()
    features = features_of(folder, count, memory_bytes)
    gc.collect()
    opened = resident()
    threading.stack_size(1 << 20)  # otherwise each thread reserves 8 MiB and uses a few KiB
    if limited:
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        size = int(status["VmData"].split()[0]) * 1024 + memory_bytes + (1 << 20)  # the stack of the watching thread
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with Peak() as peak:
        for epoch in range(2):
            reading_epoch(features, epoch)
            training(features, epoch)
        order = torch.randperm(count).split(BATCH)
        for _ in features.in_order(order):  # a custom order: single rows at random positions
            pass
    return {"opened": opened - start, "streaming": peak.bytes - opened}


def shuffles(folder: Path, count: int, memory_bytes: int) -> dict[str, float]:
    """The largest rank correlation of consecutive epochs, and the mean entropy of the labels of a batch in bits."""
    features = features_of(folder, count, memory_bytes)
    orders, entropies = [], []
    for epoch in range(10):
        order = features.order(epoch)
        orders.append(order.argsort().double())
        entropies += [entropy(features.labels[batch]) for batch in order.split(BATCH)[:200]]
    ranks = [torch.corrcoef(torch.stack([one, other]))[0, 1].item() for one, other in pairwise(orders)]
    return {"rank": max(map(abs, ranks)), "entropy": sum(entropies) / len(entropies)}


def entropy(labels: torch.Tensor) -> float:
    """Entropy of the labels, in bits."""
    shares = torch.bincount(labels, minlength=CLASSES).double() / len(labels)
    return float(-(shares * shares.clamp(min=1e-12).log2()).sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mib", type=int, default=32)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args()
    limit = options.memory_mib << 20
    count = options.times * limit // (4 * WIDTH)
    folder = Path(tempfile.mkdtemp())
    try:
        forked(lambda: features_of(folder, count, 0).computed)
        used = forked(lambda: memory(folder, count, limit, limited=False))
        forked(lambda: memory(folder, count, limit, limited=True))
        best = forked(lambda: speeds(folder, count, limit, options.epochs))
        shuffled = {kind: forked(lambda size=size: shuffles(folder, count, size))
                    for kind, size in (("held", 16 * count * WIDTH), ("streamed", limit))}  # fmt: skip
    finally:
        shutil.rmtree(folder)
    rows = [
        f"| {name} | {count / best['read', kind][0]:,.0f} | {count / best['trained', kind][0]:,.0f} "
        f"| {shuffled[kind]['rank']:.4f} | {shuffled[kind]['entropy']:.3f} |"
        for kind, name in (("held", "in memory"), ("streamed", f"streamed, memory_bytes = {options.memory_mib} MiB"))
    ]
    ratios = {
        (work, clock): best[work, "held"][clock] / best[work, "streamed"][clock]
        for work in ("read", "trained")
        for clock in (0, 1)
    }
    fair = sum(entropy(torch.randint(CLASSES, (BATCH,))) for _ in range(1000)) / 1000
    heads = ("features", "rows/s read", "rows/s with the step of a linear head",
             "largest rank correlation of nine pairs of epochs", "label entropy of a batch, bits")  # fmt: skip
    command = " ".join(["benchmarks/streaming.py", *sys.argv[1:]])
    measured = "\n".join([
        f"An epoch over {count:,} rows of {4 * WIDTH} bytes ({options.times} × {options.memory_mib} MiB), sorted by",
        f"class in the data set ({CLASSES} classes), batch size {BATCH}, warm page cache, one torch thread, best of "
        f"{options.epochs} epochs in turns.",
        f"Repeat with `python {command}`",
        f"(measured {datetime.date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}).",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *rows,
        "",
        f"Streaming reaches {ratios['trained', 0]:.2f} of the in-memory speed with the step of the head, and "
        f"{ratios['read', 0]:.2f} when the rows are only read",
        f"(by CPU time of all threads: {ratios['trained', 1]:.2f} and {ratios['read', 1]:.2f}). A random "
        f"sample of {BATCH} rows of {CLASSES} classes has",
        f"{fair:.2f} bits of entropy.",
        "",
        f"Resident memory grew by {used['opened'] >> 20} MiB when the features were opened (inputs and labels of the",
        f"data set take {count * 40 >> 20} MiB of it), and by at most {used['streaming'] >> 20} MiB more while",
        "streaming: shuffled, with the step of the head, and in a custom order of single rows. The same epochs ran in",
        f"a process that was limited (RLIMIT_DATA) to {options.memory_mib} MiB more than it had.",
    ])  # fmt: skip
    print(measured)
    if not options.no_page:
        PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + "\n" + measured + "\n")


if __name__ == "__main__":
    main()
