"""Fill, resume and open a store of very many parts on a simulated object store, and show where the time goes.

    python benchmarks/scale.py                      10^5 parts by builders, 10^6 parts opened; writes docs/scale.md
    python benchmarks/scale.py --built 2000 --opened 20000 --no-page

The store's and the builder's own code runs; the trunk gives zeros, and the object store is a dictionary that counts
requests and keeps shards by their size alone. Simulated seconds are those of the requests one after the other, 0.03 s
each and 0.1 s for a thousand names of a listing; the store makes up to sixteen at once.
"""

import argparse
import datetime
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from regraft.caches import planning
from regraft.caches.building import Builder
from regraft.caches.options import Engine, Options, Share
from regraft.caches.rows import StoredRows
from regraft.caches.running import Runner
from regraft.caches.sampling import Samples
from regraft.cuts.cut import Cut, Leaf
from regraft.examples import Examples
from regraft.splitting import FeatureComputer
from regraft.stores.folder import FolderEntry
from regraft.stores.place import Chunk, FileFacts, OpenFile, Place

ROWS, BATCH = 8, 8  # of a part, and of a batch
REQUEST_S, LISTING_S, NAMES = 0.03, 0.1, 1000
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
PAGE_TEXT = """# Stores of very many parts

This page shows what a large feature store takes. The store's and the builder's own code ran against a simulated object
store, with a trunk that computes nothing and {rows} rows a part. To repeat it: `python {command}` (measured {date}).

Seconds are those of this process (processor seconds in brackets). Simulated seconds are those of the requests one after
the other, 0.03 s each and 0.1 s for a thousand names of a listing. Memory is what the process's peak grew by in the
phase. The entry is opened in a forked process: copying the simulated store's memory to it is part of these seconds.
[Scale](why/scale.md) draws the conclusions.

| phase | parts | seconds (cpu) | requests | a part | simulated s | MiB |
|---|---|---|---|---|---|---|
{lines}
"""


class SimulatedPlace(Place):
    """An object store in memory: whole puts, conditional puts, listings of a thousand names."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, bytes | int]] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()

    def _folder(self, name: str) -> tuple[dict[str, bytes | int], str]:
        folder, _, file = name.rpartition("/")
        return self.folders.setdefault(folder, {}), file

    def where(self, name: str = "") -> str:
        return f"simulated://{name}"

    def names(self, folder: str = "") -> list[str]:
        return sorted(self._listed(folder))

    def _listed(self, folder: str) -> dict[str, bytes | int]:
        files = self.folders.get(folder, {})
        self.requests["list"] += 1 + len(files) // NAMES
        return files

    def files(self, folder: str = "") -> dict[str, FileFacts]:
        files = self._listed(folder)
        return {name: FileFacts(held if isinstance(held, int) else len(held), 0.0) for name, held in files.items()}

    def size(self, name: str) -> int:
        return len(self.read(name))

    def changed(self, name: str) -> float:
        return 0.0

    def read(self, name: str) -> bytes:
        self.requests["get"] += 1
        folder, file = self._folder(name)
        if file not in folder:
            raise FileNotFoundError(name)
        return folder[file]

    def opened(self, name: str) -> OpenFile:
        raise NotImplementedError("shards are not kept")

    def write(self, name: str, chunks: Iterable[Chunk]) -> None:
        self.requests["put"] += 1
        folder, file = self._folder(name)
        sizes = [memoryview(chunk).nbytes for chunk in chunks] if name.startswith("parts/") else []
        folder[file] = sum(sizes) if sizes else b"".join(map(bytes, chunks))

    def create(self, name: str, content: bytes) -> bool:
        self.requests["put if absent"] += 1
        folder, file = self._folder(name)
        with self.lock:
            return file not in folder and folder.setdefault(file, content) is content

    def remove(self, name: str) -> None:
        self.remove_file(name)

    def remove_file(self, name: str) -> None:
        self.requests["delete"] += 1
        folder, file = self._folder(name)
        folder.pop(file, None)

    def excludes(self) -> bool:
        return True

    def seconds(self, requests: Counter[str]) -> float:
        """Of these requests, one after the other."""
        return requests["list"] * LISTING_S + (requests.total() - requests["list"]) * REQUEST_S


class Zeros(FeatureComputer):
    """A trunk that computes nothing."""

    cut = Cut((Leaf("x", (1,), torch.float32, 4),), work_saved=1.0)

    def __call__(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": inputs}

    def describe(self) -> dict:
        return {"module": "zeros"}

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        return {}


class Named(Examples):
    """Examples with names, which cost nothing to read."""

    def __init__(self, count: int) -> None:
        self.labels = torch.zeros(count, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(indices), 1), self.labels[indices]

    def content_ids(self, indices: Sequence[int] | None = None) -> Sequence[str]:
        return list(map(str, range(len(self)) if indices is None else indices))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Phases:
    """What each phase took, as lines of a table."""

    def __init__(self, place: SimulatedPlace) -> None:
        self.place, self.lines = place, list[str]()

    def run(self, name: str, parts: int, work: Callable[[], object]) -> object:
        self.place.requests.clear()
        before, started = peak_bytes(), time.perf_counter()
        cpu = time.process_time()
        result = work()
        wall, cpu, grown = time.perf_counter() - started, time.process_time() - cpu, peak_bytes() - before
        requests = self.place.requests.copy()
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(requests.items()))
        self.lines.append(
            f"| {name} | {parts:,} | {wall:.1f} ({cpu:.1f}) | {requests.total():,} ({kinds}) | "
            f"{requests.total() / parts:.3f} | {self.place.seconds(requests):,.0f} | {grown / 2**20:,.0f} |"
        )
        print(self.lines[-1], flush=True)
        return result


def builder(place: Place, samples: Samples, share: Share) -> Builder:
    entry = FolderEntry(place, "k")
    return Builder(Runner(Zeros()), samples, entry, Options(batch_size=BATCH, engine=Engine(share=share)))


def built(parts: int) -> list[str]:
    """Two builders fill a store, a third one finds nothing to do."""
    planning.PART_BYTES, planning.LEAST_PARTS = ROWS * 4, 1
    place = SimulatedPlace()
    phases = Phases(place)
    samples = Samples(Named(parts * ROWS))
    half = builder(place, samples, Share(0, 2))
    plain, left = half._take, [parts // 2]

    def until_half(part: planning.PlannedPart) -> bool:
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError
        return plain(part)

    def interrupted() -> None:
        with suppress(InterruptedError):
            half.build()

    half._take = until_half  # type: ignore[method-assign]
    phases.run("a builder fills half of the parts, and is interrupted", parts // 2, interrupted)
    phases.run("another one fills the rest", parts // 2, lambda: builder(place, samples, Share(1, 2)).build())
    phases.run("a third one finds nothing to do", parts, lambda: builder(place, samples, Share(0, 1)).build())
    return phases.lines


def opened(parts: int) -> list[str]:
    """A store of so many parts is opened by another process's entry, with the table of where each row is."""
    place = SimulatedPlace()
    phases = Phases(place)
    tensors = {"x": torch.zeros(ROWS, 1)}
    ids = np.random.default_rng(0).integers(0, 256, (parts, ROWS, 16), np.uint8)

    def commit() -> None:
        entry = FolderEntry(place, "k")
        for number in range(parts):
            entry.commit(f"p{number:016x}", ids[number], tensors)
        entry.join_records()

    phases.run("parts are committed", parts, commit)
    with tempfile.NamedTemporaryFile("r") as lines:
        if os.fork() == 0:  # a new process: the peak of the filling does not count
            rows = phases.run(
                "the entry is opened", parts, lambda: StoredRows(FolderEntry(place, "k"), Zeros.cut.leaves)
            )
            phases.run("where each row is", parts, rows.index)
            Path(lines.name).write_text("\n".join(phases.lines[-2:]))
            os._exit(0)
        os.wait()
        return [*phases.lines, *lines.read().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--built", type=int, default=100_000, help="parts that builders fill")
    parser.add_argument("--opened", type=int, default=1_000_000, help="parts of the store that is opened")
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = "\n".join([*built(options.built), *opened(options.opened)])
    command = " ".join(["benchmarks/scale.py", *sys.argv[1:]])
    page = PAGE_TEXT.format(command=command, date=datetime.date.today(), rows=ROWS, lines=lines)
    if not options.no_page:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
