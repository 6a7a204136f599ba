"""Build an entry: run the trunk over the rows that a store lacks, part by part, beside any number of other builders.

Every row is computed in a batch of exactly `batch_size` rows (a short batch is filled by repetition), and the last
rows of the data set in one batch of what remains: the batches of a plain loop over the data set. So a row has the same
bits whichever builder computes it, in whichever run.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.ids import SeenIds
from regraft.caches.options import Options
from regraft.caches.ragged import encode_column
from regraft.caches.rows import StoredRows
from regraft.caches.running import Rows, Runner
from regraft.caches.sampling import SampleBatch, Samples, changed_meanwhile
from regraft.cuts.cut import Leaf
from regraft.stores.store import Entry
from regraft.tensors.fingerprints import ID_BYTES
from regraft.tensors.ragged import Column, column_of

PART_BYTES = 32 << 20
PART_ROWS = 2048  # with a trunk of 10 ms a row a crash loses at most 20 s; smaller parts cost more files and fsyncs
WAIT_S = 0.2

Advance = Callable[[int], None]


def part_rows(leaves: Sequence[Leaf], batch_size: int) -> int:
    """Rows of a part: whole batches, the same for every builder of the same cut and batch size."""
    row_bytes = max(1, sum(leaf.bytes_per_example for leaf in leaves))
    return max(1, min(PART_BYTES // row_bytes, PART_ROWS) // batch_size) * batch_size


def storage_order(count: int, batch_size: int) -> Tensor:
    """A fixed random order of the rows, the last batch of what remains at its end.

    Random, so that a block of neighbouring rows is a fair sample of the data (a data set is often sorted by class).
    """
    full = count - count % batch_size
    return torch.cat([torch.randperm(full, generator=torch.Generator().manual_seed(0)), torch.arange(full, count)])


@dataclass
class _PartInWork:
    """Missing rows that become one part. `outputs` stays empty while another builder computes them."""

    lease: str
    is_mine: bool
    rows: list[int] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    outputs: list[Rows] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The part's name: the same rows, the same name, whoever computes them."""
        return "p" + hashlib.sha256(b"".join(self.ids)).hexdigest()[:16]


@final
class Builder:
    """Adds the missing rows of the samples to an entry.

    advance   moves the progress bar by so many rows
    computed  rows that the trunk has computed
    """

    def __init__(
        self,
        run: Runner,
        samples: Samples,
        entry: Entry,
        options: Options,
        *,
        advance: Advance = lambda _: None,
    ) -> None:
        self.run, self.samples, self.entry, self.options, self.advance = run, samples, entry, options, advance
        self.batch_size = options.batch_size
        self.part_rows = part_rows(run.leaves, self.batch_size)
        self.full = len(samples) - len(samples) % self.batch_size  # rows in whole batches
        self.computed = 0
        self._before = StoredRows(entry, run.leaves).index()
        self._seen = SeenIds()
        self._part: _PartInWork | None = None
        self._of_others: list[_PartInWork] = []
        self._pending: list[SampleBatch] = []
        self._leased: set[str] = set()
        self._mark = ""  # of the build under way: an interrupted one is found by the next build of the same data
        self._has_begun = False

    def build(self) -> None:
        """Compute what is missing; on return every row is in the entry, and all ids and labels are known.

        Raises CacheError when the store cannot take a part; what was committed stays, and the next build goes on.
        """
        order = storage_order(len(self.samples), self.batch_size)
        try:
            self._pass_over(order[: self.full], self.batch_size)
            self._pass_over(order[self.full :], len(self.samples) - self.full)
            self._end_part()
            self._compute_the_others()
        finally:
            for lease in list(self._leased):
                self._release(lease)
        self.entry.finish(self._mark)
        self.samples.ids_known = True

    def _pass_over(self, rows: Tensor, size: int) -> None:
        """Fetch each row (where ids and labels are known, those that the store lacks); compute the missing ones."""
        if not len(rows):
            return
        if self.samples.named and self.samples.known_labels is not None:
            rows = self._missing_rows(rows)
        for batch in self.samples.batches(rows, self.batch_size, workers=self.options.engine.workers):
            self._mark = self._mark or mark_of(len(self.samples), batch.ids[0])
            missing = self._missing(batch.ids)
            self.advance(int((~missing).sum()))
            if missing.any():
                self._pending.append(
                    batch if missing.all() else batch.select(torch.from_numpy(np.flatnonzero(missing)))
                )
                self._flush(size, whole_only=True)
        self._flush(size, whole_only=False)

    def _missing_rows(self, rows: Tensor) -> Tensor:
        """Those of the rows that the store lacks, of equal ones the first."""
        ids = self.samples.ids[rows.numpy()]
        missing = self._missing(ids)
        self._seen = SeenIds()  # they are looked at once more when they are fetched
        self.advance(int((~missing).sum()))
        self._mark = self._mark or mark_of(len(self.samples), ids[0])
        return rows[torch.from_numpy(missing)]

    def _missing(self, ids: np.ndarray) -> np.ndarray:
        """Which rows neither the store had at the start nor this pass has seen: the second of two equal inputs."""
        missing = self._before.find(ids) < 0
        missing[missing] = self._seen.first(ids[missing])
        return missing

    def _flush(self, size: int, *, whole_only: bool) -> None:
        """Compute pending rows by batches of `size`."""
        while (count := sum(map(len, self._pending))) >= size or (count and not whole_only):
            pending = SampleBatch.joined(self._pending, self.samples.pads)
            taken = min(size, count)
            self._pending = [pending.select(torch.arange(taken, count))] if taken < count else []
            self._compute(pending if taken == count else pending.select(torch.arange(taken)), size)

    def _compute(self, batch: SampleBatch, size: int) -> None:
        if self._part is None:
            self._part = self._start_part(batch.ids)
        part = self._part
        part.rows += batch.rows.tolist()
        part.ids += [row.tobytes() for row in batch.ids]
        if part.is_mine:
            part.outputs.append(self.run.rows(batch, size))
            self.computed += len(batch)
        self.advance(len(batch))
        if len(part.rows) >= self.part_rows:
            self._end_part()

    def _start_part(self, ids: np.ndarray) -> _PartInWork:
        if not self._has_begun:
            self._has_begun = True
            self.entry.begin(self._mark, {"rows": len(self.samples)})
        lease = ids[0].tobytes().hex()
        is_mine = self._lease(lease)
        if is_mine and any(np.array_equal(part.ids[0], ids[0]) for part in self.entry.parts()):
            self._release(lease)  # another builder has committed it since this build began
            is_mine = False
        return _PartInWork(lease, is_mine)

    def _lease(self, lease: str) -> bool:
        if not self.entry.lease(lease):
            return False
        self._leased.add(lease)
        return True

    def _release(self, lease: str) -> None:
        self.entry.release(lease)
        self._leased.discard(lease)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        if part.is_mine:
            # Written before the next part is begun: a crash costs the part under way and nothing else. Meanwhile
            # inputs are fetched ahead.
            self._commit(part)
        else:
            self._of_others.append(part)

    def _commit(self, part: _PartInWork) -> None:
        tensors: dict[str, Tensor] = {}
        for leaf in self.run.leaves:
            tensors |= encode_column(leaf.name, column_from(part.outputs, leaf.name), self.options.precision)
        ids = np.frombuffer(b"".join(part.ids), np.uint8).reshape(-1, ID_BYTES)
        self.samples.refuse_changed(part.rows, ids)
        self.entry.commit(part.name, ids, tensors)
        self._release(part.lease)

    def _compute_the_others(self) -> None:
        """Wait for the parts of other builders, and compute those whose builder has died."""
        while waiting := self._not_committed(self._of_others):
            self._of_others = []
            for part in waiting:
                if not self._lease(part.lease):
                    self._of_others.append(part)
                elif self._not_committed([part]):
                    self._compute_again(part)
                else:
                    self._release(part.lease)
            if self._of_others:
                time.sleep(WAIT_S)

    def _not_committed(self, parts: Sequence[_PartInWork]) -> list[_PartInWork]:
        committed = {part.name for part in self.entry.parts()} if parts else set()
        return [part for part in parts if part.name not in committed]

    def _compute_again(self, part: _PartInWork) -> None:
        """Compute a part from its row numbers."""
        rows = torch.tensor(part.rows)
        for chosen, size in (
            (rows[rows < self.full], self.batch_size),
            (rows[rows >= self.full], len(self.samples) - self.full),
        ):
            for block in torch.split(chosen, size) if len(chosen) else ():
                batch = self.samples.fetch(block)
                if not np.array_equal(batch.ids, self.samples.ids[block.numpy()]):
                    raise changed_meanwhile([row // self.samples.views for row in block.tolist()])
                part.outputs.append(self.run.rows(batch, size))
                self.computed += len(block)
        self._commit(part)


def column_from(outputs: Sequence[Rows], leaf: str) -> Column:
    """All rows of one leaf, batch after batch."""
    batches = [rows[leaf] for rows in outputs]
    if isinstance(batches[0], Tensor):
        return torch.cat([rows for rows in batches if isinstance(rows, Tensor)])
    return column_of([row for rows in batches for row in rows])


def columns_in_memory(
    run: Runner, samples: Samples, options: Options, *, advance: Advance = lambda _: None
) -> Mapping[str, Column]:
    """All rows of each leaf in the samples' order: no store, no ids."""
    whole = {leaf.name: torch.empty((len(samples), *leaf.shape), dtype=leaf.dtype)
             for leaf in run.leaves if leaf.name not in run.ragged}  # fmt: skip
    ragged: dict[str, list[Tensor]] = {leaf: [] for leaf in run.ragged}
    for batch in samples.batches(torch.arange(len(samples)), options.batch_size, workers=options.engine.workers):
        for leaf, rows in run.rows(batch, len(batch)).items():
            if isinstance(rows, Tensor):
                whole[leaf][batch.rows] = rows
            else:
                ragged[leaf] += rows
        advance(len(batch))
    columns: dict[str, Column] = {**whole, **{leaf: column_of(rows) for leaf, rows in ragged.items()}}
    return {leaf.name: columns[leaf.name] for leaf in run.leaves}


def mark_of(count: int, first: np.ndarray) -> str:
    """A data set's name in the list of builds under way."""
    return f"{count}-{first.tobytes().hex()[:16]}"
