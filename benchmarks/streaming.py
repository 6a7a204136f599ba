"""Epochs over a cache eight times as large as the memory that it may use: speed, resident memory, shuffle.

python benchmarks/streaming.py            → docs/streaming.md
"""

import argparse
import datetime
import os
import pickle
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace as Plain
from typing import Any

import torch
from torch import nn

from regraft.caches.features import Features
from regraft.caching import cache_features
from regraft.stores.folder import FolderStore

WIDTH, CLASSES, BATCH = 512, 100, 256
PAGE = Path(__file__).parents[1] / "docs" / "streaming.md"


class WideTrunk:
    """A frozen layer that makes 2 KiB of a few numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(8, WIDTH).requires_grad_(False)
        leaf = Plain(name="hidden", shape=(WIDTH,), dtype=torch.float32, bytes_per_example=4 * WIDTH)
        self.cut = Plain(leaves=(leaf,), by_row=True)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"hidden": self.layer(x)}

    def describe(self) -> dict:
        return {"module": "wide"}

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.layer.state_dict())


def features_of(folder: Path, count: int, memory_bytes: int) -> Features:
    """The features of a data set sorted by class, as data sets often are."""
    inputs = torch.randn(count, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) * CLASSES // count
    store = FolderStore(folder, memory_bytes=memory_bytes)
    return cache_features(WideTrunk(), (inputs, labels), store, data_id="streaming")


def forked(work: Callable[[], Any]) -> Any:
    """What `work` gives in a process of its own."""
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
    """Bytes of this process that lie in memory, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The largest resident memory while the block ran."""

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


def warm_up() -> None:
    """Everything once on a few rows: libraries take memory when they are first used."""
    inputs, labels = torch.randn(256, WIDTH), torch.zeros(256, dtype=torch.int64)
    head = nn.Linear(WIDTH, CLASSES)
    nn.functional.cross_entropy(head(inputs), labels).backward()
    torch.optim.SGD(head.parameters(), lr=1e-3).step()
    cache_features(WideTrunk(), (torch.randn(256, 8), labels))


def epochs_of(folder: Path, count: int, memory_bytes: int, epochs: int) -> dict[str, Any]:
    """Seconds of reading and of training epochs, resident memory beyond the start's, and the shuffle's quality."""
    torch.set_num_threads(1)
    warm_up()
    base = resident()
    features = features_of(folder, count, memory_bytes)
    opened = resident()
    head = nn.Linear(WIDTH, CLASSES)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)
    reading, training, orders, entropies = [], [], [], []
    list(zip(range(3), features.batches(BATCH), strict=False))
    with Peak() as peak:
        for epoch in range(epochs + 1):  # the first one checks every byte, and is not counted
            started = time.perf_counter()
            for _, inputs, _ in features.batches(BATCH, epoch=epoch):
                inputs["hidden"][0, 0].item()
            reading.append(time.perf_counter() - started)
        for epoch in range(epochs):
            started = time.perf_counter()
            for _, inputs, labels in features.batches(BATCH, epoch=epoch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(inputs["hidden"]), labels).backward()
                optimizer.step()
            training.append(time.perf_counter() - started)
    for epoch in range(3):
        order = features.order(epoch)
        orders.append(order.argsort().double())
        entropies += [entropy(features.labels[batch]) for batch in order.split(BATCH)[:200]]
    ranks = [torch.corrcoef(torch.stack([one, other]))[0, 1].item() for one, other in pairwise(orders)]
    return {
        "held": features.inputs is not None, "reading": min(reading[1:]), "training": min(training),
        "opened": opened - base,
        "resident": peak.bytes - opened, "rank": max(map(abs, ranks)),
        "entropy": sum(entropies) / len(entropies),
    }  # fmt: skip


def entropy(labels: torch.Tensor) -> float:
    """Of the classes in a batch, in bits."""
    shares = torch.bincount(labels, minlength=CLASSES).double() / len(labels)
    return float(-(shares * shares.clamp(min=1e-12).log2()).sum())


def main() -> None:
    told = argparse.ArgumentParser()
    told.add_argument("--memory-mib", type=int, default=32)
    told.add_argument("--times", type=int, default=8)
    told.add_argument("--epochs", type=int, default=3)
    told.add_argument("--no-page", action="store_true")
    given = told.parse_args()
    limit = given.memory_mib << 20
    count = given.times * limit // (4 * WIDTH)
    folder = Path(tempfile.mkdtemp())
    try:
        forked(lambda: features_of(folder, count, 0).computed)
        streamed = forked(lambda: epochs_of(folder, count, limit, given.epochs))
        held = forked(lambda: epochs_of(folder, count, 4 * given.times * limit, given.epochs))
    finally:
        shutil.rmtree(folder)
    assert held["held"]
    assert not streamed["held"]
    rows = [
        f"| {name} | {count / got['reading']:,.0f} | {count / got['training']:,.0f} "
        f"| {got['opened'] >> 20} MiB | {got['resident'] >> 20} MiB "
        f"| {got['rank']:.4f} | {got['entropy']:.3f} |"
        for name, got in (("in memory", held), (f"streamed, memory_bytes = {given.memory_mib} MiB", streamed))
    ]
    fair = entropy(torch.randint(CLASSES, (BATCH,), generator=torch.Generator().manual_seed(0)))
    heads = ("features", "rows/s read", "rows/s with a linear head's step",
             "resident when opened", "more while training",
             "rank correlation of consecutive epochs", "label entropy of a batch, bits")  # fmt: skip
    lines = [
        "# Larger than memory",
        "",
        f"An epoch over {count:,} rows of {4 * WIDTH} bytes ({given.times} × {given.memory_mib} MiB), sorted by class",
        f"in the data set ({CLASSES} classes), batches of {BATCH}, warm page cache, one torch thread. Get these lines",
        f"again with `python {' '.join(['benchmarks/streaming.py', *sys.argv[1:]])}`",
        f"(measured {datetime.date.today()}, {os.cpu_count()} cores shared with other work, best of {given.epochs}).",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *rows,
        "",
        f"Streamed is {held['reading'] / streamed['reading']:.2f} of the in-memory speed when nothing is done with the",
        f"rows, {held['training'] / streamed['training']:.2f} with the head's step. A fair sample of {BATCH} rows of",
        f"{CLASSES} classes has {fair:.2f} bits of entropy. Resident when opened are the data",
        "set's own inputs and labels, about 100 bytes a row for ids and places, and what the search left behind.",
        "",
    ]
    page = "\n".join(lines)
    print(page)
    if not given.no_page:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
