"""What a cache costs and from which epoch on it pays: measured, then said in a plain sentence."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, final

import torch
from torch import Tensor

from regraft.caches.ids import Index
from regraft.caches.options import Options
from regraft.caches.precision import SCALE, decode_rows, encode
from regraft.caches.running import Outputs, Runner, first_rows
from regraft.caches.sampling import SampleBatch, Samples
from regraft.foundation.wording import bytes_text, counted, seconds_text
from regraft.tensors.fingerprints import as_bytes, input_ids
from regraft.tensors.trees import Inputs

FEW_ROWS = 16  # on which a slow trunk is measured
LEAST_S = 0.05  # a shorter measurement is repeated on a whole batch

Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class Cost:
    """The price of caching, measured on a batch; all seconds are for one row.

    count, views   examples, and stored copies of each
    missing        rows (count × views at most) that the store lacks
    fetched        rows whose input has to be read, to compute them or to know them
    bytes          of the whole cache
    fetch_s        reading, decoding and transforming an example
    trunk_s        the trunk's forward
    write_s        hashing the input, encoding and hashing the row; not the disk, which takes a fraction of that
    read_s         reading a row back
    """

    count: int
    views: int
    missing: int
    fetched: int
    bytes: int
    fetch_s: float
    trunk_s: float
    write_s: float
    read_s: float

    @property
    def seconds(self) -> float:
        """What building takes now."""
        return self.fetched * self.fetch_s + self.missing * (self.trunk_s + self.write_s)

    @property
    def pays_from(self) -> int | None:
        """The first number of epochs E that are faster with the cache; None when there is none.

        E · count · (fetch + trunk) > seconds + E · count · read; for an empty store and V views that is
        (E - V)(fetch + trunk) > E·read + V·write.
        """
        saved = self.count * (self.fetch_s + self.trunk_s - self.read_s)
        return int(self.seconds / saved) + 1 if saved > 0 else None

    def pays(self, epochs: int) -> bool:
        """Whether training for so many epochs is faster with the cache."""
        return self.pays_from is not None and epochs >= self.pays_from

    def __str__(self) -> str:
        copies = f" in {self.views} views" if self.views > 1 else ""
        stored = (
            "" if self.missing == self.count * self.views else f" ({counted(self.missing, 'row', 'is/are')} missing)"
        )
        size, duration = bytes_text(self.bytes), seconds_text(self.seconds)
        price = f"Caching {counted(self.count, 'example')}{copies}{stored} takes about {duration} and {size}"
        if self.pays_from is None:
            return f"{price}; it does not pay: reading a row takes as long as computing it."
        return f"{price}; it pays from {counted(self.pays_from, 'epoch')} on."


def _stored_bytes(leaves: Iterable[Mapping[str, Tensor]]) -> int:
    """What the rows of these encoded leaves take, without the few numbers that scale them."""
    rows = [tensor for tensors in leaves for name, tensor in tensors.items() if not name.endswith(SCALE)]
    return sum(tensor.numel() * tensor.element_size() for tensor in rows)


def expected_cost(run: Runner, samples: Samples, index: Index | None, options: Options) -> Cost:
    """What computing the missing rows will cost, measured on one random batch.

    index  of the rows that the store has; None for no store

    Without known ids the part that is missing is estimated from the batch.
    """
    rows = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))[: options.batch_size]
    fetch_s, batch = _timed(lambda: _fetched(samples, rows, options.engine.workers))
    hashing_s = 0.0
    if samples.hashed and not samples.ids_known:
        hashing_s, _ = _timed(lambda: input_ids(batch.inputs, len(rows)))
    trunk_s, outputs = _trunk_seconds(run, batch.inputs, len(rows))
    count = len(next(iter(outputs.values())))
    encoded = {leaf: encode(leaf, values, options.precision) for leaf, values in outputs.items()}
    missing = 1.0
    if index is not None:
        missing = float((index.find(samples.ids if samples.ids_known else batch.ids) < 0).mean())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return Cost(
        count=len(samples.examples),
        views=samples.views,
        missing=round(missing * len(samples)),
        fetched=round(missing * len(samples)) if samples.ids_known else len(samples),
        bytes=round(_stored_bytes(encoded.values()) / count * len(samples)),
        fetch_s=max(0.0, fetch_s - hashing_s) / len(rows),
        trunk_s=trunk_s,
        write_s=hashing_s / len(rows) + _timed(lambda: _write(outputs, options.precision))[0] / count,
        read_s=_timed(lambda: _read(outputs, encoded, order))[0] / count,
    )


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that the work takes, and what it gives."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _fetched(samples: Samples, rows: Tensor, workers: int | None) -> SampleBatch:
    """These rows, fetched in small blocks by as many threads as the build has."""
    return SampleBatch.joined([*samples.batches(rows, max(1, len(rows) // 8), workers=workers)], samples.pads)


def _trunk_seconds(run: Runner, inputs: Inputs, count: int) -> tuple[float, Outputs]:
    """Seconds of the trunk for one row, and outputs. A slow trunk is measured on few rows."""
    run(first_rows(inputs, min(2, count)))  # the first run of a shape plans and allocates
    for size in (min(FEW_ROWS, count), count):
        seconds, outputs = _timed(partial(_to_memory, run, first_rows(inputs, size)))
        if seconds > LEAST_S:
            break
    return seconds / size, outputs


def _to_memory(run: Runner, inputs: Inputs) -> Outputs:
    return {leaf: rows.cpu() for leaf, rows in run(inputs).items()}


def _write(outputs: Mapping[str, Tensor], precision: str) -> None:
    for leaf, rows in outputs.items():
        for tensor in encode(leaf, rows, precision).values():
            hashlib.sha256(as_bytes(tensor).data)


def _read(outputs: Mapping[str, Tensor], encoded: Mapping[str, Mapping[str, Tensor]], order: Tensor) -> None:
    for leaf, rows in outputs.items():
        decode_rows(encoded[leaf][leaf].index_select(0, order), rows.dtype, encoded[leaf].get(leaf + SCALE))
