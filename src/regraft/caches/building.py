"""Build an entry: run the trunk over the rows that a store lacks, part by part, beside any number of other builders.

Every row is computed in a batch of exactly `batch_size` rows (a short batch is filled by repetition), and the last
rows of the data set in one batch of what remains: the batches of a plain loop over the data set. So a row has the same
bits whichever builder computes it, in whichever run.

Where the ids of the rows are known, so are all parts: a builder leases a part before it reads any of its inputs. Where
only the inputs can tell, a builder reads them all, and leases each part when it has read its first row.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.ids import Index, SeenIds
from regraft.caches.options import Options
from regraft.caches.planning import PlannedPart, beginning_at, lease_of, part_rows, planned_parts, storage_order
from regraft.caches.ragged import encode_column
from regraft.caches.rows import StoredRows
from regraft.caches.running import Rows, Runner
from regraft.caches.sampling import SampleBatch, Samples
from regraft.errors import CacheError
from regraft.stores.store import Entry
from regraft.tensors.ragged import Column, column_of

WAIT_S = 0.2  # before the parts of other builders are looked at again; twice as long after each look in vain, up to
LONGEST_WAIT_S = 5.0
VAIN = 32  # parts in a row that others have: then the store is asked which parts are still missing

Advance = Callable[[int], None]


@dataclass
class _PartInWork:
    """A part whose rows become known while they are read. `outputs` stays empty while another builder computes it."""

    lease: str
    is_mine: bool
    rows: list[Tensor] = field(default_factory=list)
    ids: list[np.ndarray] = field(default_factory=list)
    outputs: list[Rows] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def planned(self) -> PlannedPart:
        """The part, now that all its rows are known."""
        return PlannedPart.of(torch.cat(self.rows), np.concatenate(self.ids))


@final
@dataclass(frozen=True, eq=False)
class _Block:
    """Rows of a planned part that are fetched together: a batch, or a piece of one.

    size  at which the trunk runs the batch
    """

    part: PlannedPart
    rows: Tensor
    size: int
    ends_batch: bool
    ends_part: bool


@final
class Builder:
    """Adds the missing rows of the samples to an entry.

    stored    where the rows are that the entry has; None looks
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
        stored: Index | None = None,
        advance: Advance = lambda _: None,
    ) -> None:
        self.run, self.samples, self.entry, self.options, self.advance = run, samples, entry, options, advance
        self.batch_size, self.share = options.batch_size, options.engine.share
        self.rest = len(samples) % self.batch_size  # rows after the last whole batch
        self.full = len(samples) - self.rest
        self.part_rows = part_rows(run.leaves, self.batch_size, len(samples), is_shared=samples.can_be_shared)
        self.computed = 0
        self._before = StoredRows(entry, run.leaves).index() if stored is None else stored
        self._seen = SeenIds()
        self._part: _PartInWork | None = None
        self._of_others: list[PlannedPart] = []
        self._pending: list[SampleBatch] = []
        self._leased: set[str] = set()
        self._mine: set[str] = set()  # names of the parts that this builder has committed
        self._tried = self._vain = 0  # parts of this round; parts in a row that others had
        self._mark = ""  # of the build under way: an interrupted one is found by the next build of the same data
        self._has_begun = False

    def build(self, *, wait: bool = True) -> list[PlannedPart]:
        """Compute what is missing, and return the parts that are still missing: other builders compute them.

        wait  for these too, and compute those whose builder dies: on return nothing is missing

        Raises CacheError when the store cannot take a part; what was committed stays, and the next build goes on.
        """
        if self.share.count > 1:
            self._refuse_sharing()
            self.samples.know_ids()
        try:
            parts = self._plan() if self.samples.ids_known else self._read_through()
            missing = self._compute_all(parts, wait)
        finally:
            for lease in list(self._leased):
                self._release(lease)
        self.entry.join_records()
        if not missing:
            self.entry.finish(self._mark, {part.lease for part in parts})
        return missing

    def _refuse_sharing(self) -> None:
        """Raise CacheError when the store cannot keep two builders from the same part."""
        if not self.entry.excludes():
            raise CacheError(
                "Several builders cannot share this store: it has no exclusive creation of a file, so two of them "
                "could compute the same part.\nUse a folder that all machines see, or an object store (s3://, gs://, "
                "abfs://) whose server keeps the condition of a put (If-None-Match)."
            )

    def _plan(self) -> list[PlannedPart]:
        """All missing parts, in the order in which this builder tries them. Nothing is read."""
        order, ids = storage_order(len(self.samples), self.batch_size), self.samples.ids
        missing = self._missing(ids[order.numpy()])
        self.advance(int((~missing).sum()))
        self._mark = mark_of(len(self.samples), ids[int(order[0])])
        if missing.any():
            self._begin()
        parts = planned_parts(order[torch.from_numpy(missing)], ids, full=self.full, size=self.part_rows)
        return beginning_at(parts, self.share)

    def _begin(self) -> None:
        """Note the build in the entry, once. The parts are cut as whoever began it first has cut them."""
        if not self._has_begun:
            self._has_begun = True
            facts = self.entry.begin(self._mark, {"rows": len(self.samples), "part_rows": self.part_rows})
            noted = facts.get("part_rows")
            if isinstance(noted, int) and noted > 0 and noted % self.batch_size == 0:
                self.part_rows = noted

    def _missing(self, ids: np.ndarray) -> np.ndarray:
        """Which rows neither the store had at the start nor this builder has seen: the second of two equal inputs."""
        missing = self._before.find(ids) < 0
        missing[missing] = self._seen.first(ids[missing])
        return missing

    def _compute_all(self, parts: Sequence[PlannedPart], wait: bool) -> list[PlannedPart]:
        """Compute the parts, again and again those that others had leased: their builders may die."""
        pause_s = WAIT_S
        while parts:
            before = self.computed
            self._compute_free(parts)
            # The next round begins where this one ended.
            parts = self._still_missing([*parts[self._tried :], *parts[: self._tried]])
            if self.computed > before or not parts:
                pause_s = WAIT_S
            elif self._vain >= len(parts):
                if not wait:
                    break
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_WAIT_S)
        return list(parts)

    def _still_missing(self, parts: Sequence[PlannedPart]) -> list[PlannedPart]:
        """Those of the parts that nobody has committed."""
        missing = self.entry.lacking([part.name for part in parts])
        self.advance(sum(len(part.rows) for part in parts if part.name not in missing | self._mine))
        return [part for part in parts if part.name in missing]

    def _compute_free(self, parts: Sequence[PlannedPart]) -> None:
        """Compute and commit the parts that nobody else has leased. Inputs of the next part are fetched meanwhile."""
        self._tried = 0
        blocks, under_way = self._free_blocks(parts), deque[_Block]()
        first = next(blocks, None)
        if first is None:
            return

        def rows() -> Iterator[Tensor]:
            for block in chain([first], blocks):
                under_way.append(block)
                yield block.rows

        pieces, outputs = list[SampleBatch](), list[Rows]()
        for batch in self.samples.fetched(rows(), self._workers(sum(len(part.rows) for part in parts))):
            block = under_way.popleft()
            pieces.append(batch)
            if block.ends_batch:
                outputs.append(self._outputs(SampleBatch.joined(pieces, self.samples.pads), block.size))
                pieces = []
            if block.ends_part:
                self._commit(block.part, outputs)
                outputs = []

    def _workers(self, rows: int) -> int | None:
        """Who fetches so many rows: of processes that draw views no more than there is work for."""
        workers = self.options.engine.workers
        if self.samples.views == 1:
            return workers
        return min(self.samples.workers(workers), rows // self.batch_size // 2)

    def _free_blocks(self, parts: Sequence[PlannedPart]) -> Iterator[_Block]:
        """The blocks of the parts that are free. A part is leased when its first block is asked for."""
        # Beside other builders no more than a batch is fetched ahead: a part that waits is one that nobody computes.
        ahead = 2 * self.samples.workers(self.options.engine.workers)
        piece_rows = max(1, self.batch_size // max(1, ahead)) if self.share.count > 1 else self.batch_size
        for part in parts:
            self._tried += 1
            if self._take(part):
                self._vain = 0
                yield from self._blocks_of(part, piece_rows)
            else:
                self._vain += 1
                if self._vain % VAIN == 0:
                    return

    def _blocks_of(self, part: PlannedPart, piece_rows: int) -> Iterator[_Block]:
        batches = list(part.batches(self.full, self.batch_size, self.rest))
        for rows, size in batches:
            pieces = rows.split(piece_rows)
            for piece in pieces:
                ends_batch = piece is pieces[-1]
                yield _Block(part, piece, size, ends_batch, ends_batch and rows is batches[-1][0])

    def _take(self, part: PlannedPart) -> bool:
        """Whether the part is this builder's now: nobody else computes it, and nobody has."""
        if not self._lease(part.lease):
            return False
        if self.entry.lacking([part.name]):
            return True
        self._release(part.lease)
        return False

    def _lease(self, lease: str) -> bool:
        if not self.entry.lease(lease):
            return False
        self._leased.add(lease)
        return True

    def _release(self, lease: str) -> None:
        self.entry.release(lease)
        self._leased.discard(lease)

    def _outputs(self, batch: SampleBatch, size: int) -> Rows:
        rows = self.run.rows(batch, size)
        self.computed += len(batch)
        self.advance(len(batch))
        return rows

    def _commit(self, part: PlannedPart, outputs: Sequence[Rows]) -> None:
        """Written before the next part is begun: a crash costs the part under way and nothing else."""
        tensors: dict[str, Tensor] = {}
        for leaf in self.run.leaves:
            tensors |= encode_column(leaf.name, column_from(outputs, leaf.name), self.options.precision)
        ids = self.samples.ids[part.rows.numpy()]
        self.samples.refuse_changed(part.rows.tolist(), ids)
        self.entry.commit(part.name, ids, tensors)
        self._mine.add(part.name)
        self._release(part.lease)

    # Where only the inputs tell the ids: all are read, and parts become known one after the other.

    def _read_through(self) -> list[PlannedPart]:
        """Read every input, and compute the missing rows that nobody else does. Returns the parts of the others."""
        order = storage_order(len(self.samples), self.batch_size)
        if self.full:
            self._pass_over(order[: self.full], self.batch_size)
        if self.rest:
            self._pass_over(order[self.full :], self.rest)
        self._end_part()
        self.samples.ids_known = True
        return self._of_others

    def _pass_over(self, rows: Tensor, size: int) -> None:
        for batch in self.samples.batches(rows, self.batch_size, workers=self.options.engine.workers):
            missing = self._missing(batch.ids)
            self._mark = self._mark or mark_of(len(self.samples), batch.ids[0])
            self.advance(int((~missing).sum()))
            if missing.any():
                self._pending.append(
                    batch if missing.all() else batch.select(torch.from_numpy(np.flatnonzero(missing)))
                )
                self._flush(size, whole_only=True)
        self._flush(size, whole_only=False)

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
        part.rows.append(batch.rows)
        part.ids.append(batch.ids)
        if part.is_mine:
            part.outputs.append(self._outputs(batch, size))
        if len(part) >= self.part_rows:
            self._end_part()

    def _start_part(self, ids: np.ndarray) -> _PartInWork:
        self._begin()
        lease = lease_of(ids)
        is_mine = self._lease(lease)
        if is_mine and any(np.array_equal(part.ids[0], ids[0]) for part in self.entry.parts()):
            self._release(lease)  # another builder has committed it since this build began
            is_mine = False
        return _PartInWork(lease, is_mine)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None and part.is_mine:
            self._commit(part.planned(), part.outputs)
        elif part is not None:
            self._of_others.append(part.planned())


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
