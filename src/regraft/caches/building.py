"""Build an entry: run the trunk over the rows that a store lacks, part by part, beside any number of other builders.

Every row is computed in a batch of exactly `batch_size` rows (a short batch is filled by repetition), and the last
rows of the data set in one batch of what remains: the batches of a plain loop over the data set. So a row has the same
bits whichever builder computes it, in whichever run.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.met import Met
from regraft.caches.ragged import Column, OwnShapes, column_of, encode_column, ragged_leaves
from regraft.caches.rows import Index, StoredRows
from regraft.caches.sampling import Drawn, Draws, changed_meanwhile
from regraft.cuts.cut import Leaf
from regraft.errors import CacheError
from regraft.examples import Inputs
from regraft.stores.store import Entry
from regraft.tensors.fingerprints import ID_BYTES
from regraft.tensors.trees import map_tree

PART_BYTES = 32 << 20
PART_ROWS = 2048  # with a trunk of 10 ms a row a crash loses at most 20 s; smaller parts cost more files and fsyncs
WAIT_S = 0.2

Run = Callable[[Inputs], dict[str, Tensor]]


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


def padded(inputs: Inputs, count: int, size: int) -> Inputs:
    """A batch of `count` rows, filled to `size` by repeating them."""
    if count == size:
        return inputs
    at = torch.arange(size) % count
    return map_tree(lambda tensor: tensor.index_select(0, at.to(tensor.device)), inputs)


def first_rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Rows start … stop - 1 of each tensor."""
    return map_tree(lambda tensor: tensor[start:stop], inputs)


@dataclass
class _Group:
    """Missing rows that become one part. `outputs` stays empty while another builder does them."""

    lease: str
    mine: bool
    rows: list[int] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    outputs: list[dict[str, list[Tensor] | Tensor]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The part's name: the same rows, the same name, whoever computes them."""
        return "p" + hashlib.sha256(b"".join(self.ids)).hexdigest()[:16]


@final
class Builder:
    """Adds the missing rows of a data set to an entry.

    run       inputs → leaf → rows, the trunk as it is called
    own       takes the rows of varying size out of a batch that was filled up
    labels    where they are known without reading the examples
    advance   moves the progress bar
    """

    def __init__(
        self, run: Run, draws: Draws, entry: Entry, leaves: Sequence[Leaf], *, batch_size: int, precision: str,
        own: OwnShapes | None = None,
        labels: Tensor | None = None, workers: int | None = None, advance: Callable[..., None] = lambda *_, **__: None,
    ) -> None:  # fmt: skip
        self.run, self.draws, self.entry, self.leaves = run, draws, entry, leaves
        self.batch_size, self.precision, self.workers, self.advance = batch_size, precision, workers, advance
        self.own = own or OwnShapes(None, ragged_leaves(leaves))
        self.part_rows = part_rows(leaves, batch_size)
        self.computed = 0
        self.labels = labels
        self._labels_known = labels is not None
        self.ids = np.zeros((len(draws), ID_BYTES), np.uint8) if draws.ids is None else draws.ids
        self._others: list[_Group] = []
        self._group: _Group | None = None
        self._pending: list[Drawn] = []
        self._leased: set[str] = set()
        self._mark = ""  # the data set by its count and first row: an interrupted build's mark is found by the next
        self._begun = False

    def build(self) -> None:
        """Compute what is missing; on return every row of the data set is in the entry.

        Raises CacheError when the store cannot take a part; what was committed stays, and the next build goes on.
        """
        self._before = StoredRows(self.entry, self.leaves).index()
        self._met = Met()
        order = storage_order(len(self.draws), self.batch_size)
        try:
            self._pass_over(order[: len(order) - len(order) % self.batch_size], self.batch_size)
            self._pass_over(order[len(order) - len(order) % self.batch_size :], len(order) % self.batch_size)
            self._end_group()
            self._do_the_others()
        finally:
            for lease in list(self._leased):
                self._release(lease)
        self.entry.finish(self._mark)

    def _pass_over(self, rows: Tensor, size: int) -> None:
        """Fetch each row (only those that the store lacks, where ids are known), and compute the missing ones."""
        if not len(rows):
            return
        if self.draws.ids is not None and self._labels_known:
            self._mark = self._mark or mark_of(len(self.draws), self.draws.ids[int(rows[0])])
            missing = self._missing(self.draws.ids[rows.numpy()])
            self.advance(int((~missing).sum()))
            rows = rows[torch.from_numpy(missing)]
            self._met = Met()
            if not len(rows):
                return
        for drawn in self.draws.batches(rows, self.batch_size, workers=self.workers):
            self._note(drawn)
            missing = self._missing(drawn.ids)
            self.advance(int((~missing).sum()))
            if missing.any():
                self._pending.append(drawn if missing.all() else drawn.at(torch.from_numpy(np.flatnonzero(missing))))
                self._flush(size, whole_only=True)
        self._flush(size, whole_only=False)

    def _note(self, drawn: Drawn) -> None:
        self._mark = self._mark or mark_of(len(self.draws), drawn.ids[0])
        if self._labels_known:
            return
        if self.labels is None:
            self.labels = drawn.labels.new_zeros((len(self.draws.examples), *drawn.labels.shape[1:]))
        self.labels[torch.div(drawn.rows, self.draws.views, rounding_mode="floor")] = drawn.labels
        if self.draws.ids is None:
            self.ids[drawn.rows.numpy()] = drawn.ids

    def _missing(self, ids: np.ndarray) -> np.ndarray:
        """Which rows neither the store had at the start nor this pass has met: the second of two equal inputs."""
        missing = self._before.find(ids) < 0
        missing[missing] = self._met.first(ids[missing])
        return missing

    def _flush(self, size: int, *, whole_only: bool) -> None:
        """Compute pending rows by batches of `size`."""
        while (count := sum(map(len, self._pending))) >= size or (count and not whole_only):
            pending = Drawn.joined(self._pending)
            taken = min(size, count)
            self._pending = [pending.at(torch.arange(taken, count))] if taken < count else []
            self._compute(pending if taken == count else pending.at(torch.arange(taken)), size)

    def _compute(self, drawn: Drawn, size: int) -> None:
        if self._group is None:
            self._group = self._start_group(drawn.ids)
        group = self._group
        group.rows += drawn.rows.tolist()
        group.ids += [row.tobytes() for row in drawn.ids]
        if group.mine:
            group.outputs.append(self._outputs(drawn, size))
            self.computed += len(drawn)
        self.advance(len(drawn))
        if len(group.rows) >= self.part_rows:
            self._end_group()

    def _outputs(self, drawn: Drawn, size: int) -> dict[str, list[Tensor] | Tensor]:
        outputs = self.run(padded(drawn.inputs, len(drawn), size))
        check_outputs(outputs, self.leaves, size)
        return rows_of(outputs, self.leaves, self.own, drawn)

    def _start_group(self, ids: np.ndarray) -> _Group:
        if not self._begun:
            self._begun = True
            self.entry.begin(self._mark, {"rows": len(self.draws)})
        lease = ids[0].tobytes().hex()
        mine = self._lease(lease)
        if mine and any(np.array_equal(part.ids[0], ids[0]) for part in self.entry.parts()):
            self._release(lease)  # another builder has committed it since this build began
            mine = False
        return _Group(lease, mine)

    def _lease(self, lease: str) -> bool:
        if not self.entry.lease(lease):
            return False
        self._leased.add(lease)
        return True

    def _release(self, lease: str) -> None:
        self.entry.release(lease)
        self._leased.discard(lease)

    def _end_group(self) -> None:
        group, self._group = self._group, None
        if group is None:
            return
        if not group.mine:
            self._others.append(group)
            return
        # Written before the next part is begun: a crash costs the part under way and nothing else. Meanwhile inputs
        # are fetched ahead.
        self._commit(group)

    def _commit(self, group: _Group) -> None:
        tensors: dict[str, Tensor] = {}
        for leaf in self.leaves:
            tensors |= encode_column(leaf.name, column(group.outputs, leaf.name), self.precision)
        ids = np.frombuffer(b"".join(group.ids), np.uint8).reshape(-1, ID_BYTES)
        self.draws.refuse_changed(group.rows, ids)
        self.entry.commit(group.name, ids, tensors)
        self._release(group.lease)

    def _do_the_others(self) -> None:
        """Wait for the parts of other builders, and do those whose builder has died."""
        while self._others:
            committed = {part.name for part in self.entry.parts()}
            self._others = [group for group in self._others if group.name not in committed]
            for group in self._others:
                if self._lease(group.lease):
                    group.mine = True
                    if group.name not in {part.name for part in self.entry.parts()}:
                        self._redo(group)
                    else:
                        self._release(group.lease)
            self._others = [group for group in self._others if not group.mine]
            if self._others:
                time.sleep(WAIT_S)

    def _redo(self, group: _Group) -> None:
        """Compute a group from its row numbers."""
        full = len(self.draws) - len(self.draws) % self.batch_size
        rows = torch.tensor(group.rows)
        for chosen, size in ((rows[rows < full], self.batch_size), (rows[rows >= full], len(self.draws) - full)):
            for block in chosen.split(size) if len(chosen) else ():
                drawn = self.draws.drawn(block)
                if not np.array_equal(drawn.ids, self.ids[block.numpy()]):
                    raise changed_meanwhile([row // self.draws.views for row in block.tolist()])
                group.outputs.append(self._outputs(drawn, size))
                self.computed += len(block)
        self._commit(group)


def check_outputs(outputs: Mapping[str, Tensor], leaves: Sequence[Leaf], count: int) -> None:
    """Raise CacheError when the trunk gave other leaves, rows, sizes or dtypes than its cut tells."""
    varying = ragged_leaves(leaves)
    for leaf in leaves:
        got = outputs.get(leaf.name)
        if got is None:
            raise CacheError(f"The trunk gave no {leaf.name!r}; it gave {', '.join(outputs)}.")
        is_odd = leaf.name not in varying and tuple(got.shape[1:]) != tuple(leaf.shape)
        if len(got) != count or got.dtype != leaf.dtype or is_odd:
            raise CacheError(
                f"The trunk gave {leaf.name} with shape {tuple(got.shape)} and {got.dtype} for {count} examples; the "
                f"cut tells one row of {leaf.shape} per example, {leaf.dtype}."
            )


def rows_of(
    outputs: Mapping[str, Tensor], leaves: Sequence[Leaf], own: OwnShapes, drawn: Drawn
) -> dict[str, list[Tensor] | Tensor]:
    """The drawn rows of each leaf, copied to memory: one tensor, or where sizes vary a tensor for each row."""
    rows: dict[str, list[Tensor] | Tensor] = {}
    for leaf in leaves:
        batch = outputs[leaf.name][: len(drawn)].detach()
        if leaf.name in own.ragged:
            each = own.rows(leaf.name, batch.cpu(), drawn.inputs, drawn.shapes)
            rows[leaf.name] = [row.clone(memory_format=torch.contiguous_format) for row in each]
        else:
            rows[leaf.name] = batch.to("cpu", copy=True)
    return rows


def column(outputs: Sequence[Mapping[str, list[Tensor] | Tensor]], leaf: str) -> Column:
    """All rows of one leaf, batch after batch."""
    batches = [rows[leaf] for rows in outputs]
    if isinstance(batches[0], Tensor):
        return torch.cat([rows for rows in batches if isinstance(rows, Tensor)])
    return column_of([row for rows in batches for row in rows])


def whole(draws: Draws, run: Run, leaves: Sequence[Leaf], own: OwnShapes, *, batch_size: int, workers: int | None,
          advance: Callable[..., None]) -> tuple[dict[str, Column], Tensor]:  # fmt: skip
    """All rows in memory, in the data set's order, and the labels: no store, no ids."""
    tensors: dict[str, Tensor] = {}
    ragged: dict[str, list[Tensor]] = {leaf: [] for leaf in own.ragged}
    labels: Any = None
    for drawn in draws.batches(torch.arange(len(draws)), batch_size, workers=workers):
        outputs = run(drawn.inputs)
        check_outputs(outputs, leaves, len(drawn))
        if labels is None:
            tensors = {leaf.name: torch.empty((len(draws), *outputs[leaf.name].shape[1:]), dtype=leaf.dtype)
                       for leaf in leaves if leaf.name not in ragged}  # fmt: skip
            labels = drawn.labels.new_zeros((len(draws.examples), *drawn.labels.shape[1:]))
        for leaf, rows in rows_of(outputs, leaves, own, drawn).items():
            if isinstance(rows, Tensor):
                tensors[leaf][drawn.rows] = rows
            else:
                ragged[leaf] += rows
        labels[torch.div(drawn.rows, draws.views, rounding_mode="floor")] = drawn.labels
        advance(len(drawn))
    found = {leaf: column_of(rows) for leaf, rows in ragged.items()}
    return {leaf.name: found[leaf.name] if leaf.name in found else tensors[leaf.name] for leaf in leaves}, labels


def mark_of(count: int, first: np.ndarray) -> str:
    """A data set's name in the list of builds under way."""
    return f"{count}-{first.tobytes().hex()[:16]}"


def positions_of(ids: np.ndarray, index: Index, views: int) -> Tensor:
    """Where the row of each example and view lies: (count, views) int64."""
    found = index.find(ids)
    assert (found >= 0).all(), "every row was built"
    return torch.from_numpy(found).view(-1, views)
