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

from regraft.caches.draws import Draws, join
from regraft.caches.precision import encode
from regraft.caches.stored import Index, LeafLike, StoredRows
from regraft.errors import CacheError
from regraft.examples import Inputs, map_tensors
from regraft.fingerprints import ID_BYTES
from regraft.padding import longest, padded_cat, padded_to
from regraft.stores.store import Entry

PART_BYTES = 32 << 20
PART_ROWS = 2048  # with a trunk of 10 ms a row a crash loses at most 20 s; smaller parts cost more files and fsyncs
WAIT_S = 0.2

Run = Callable[[Inputs], dict[str, Tensor]]


def part_rows(leaves: Sequence[LeafLike], batch_size: int) -> int:
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
    return map_tensors(lambda tensor: tensor.index_select(0, at.to(tensor.device)), inputs)


def first_rows(inputs: Inputs, start: int, stop: int) -> Inputs:
    """Rows start … stop - 1 of each tensor."""
    return map_tensors(lambda tensor: tensor[start:stop], inputs)


@dataclass
class _Group:
    """Missing rows that become one part. `outputs` stays empty while another builder does them."""

    lease: str
    mine: bool
    rows: list[int] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    outputs: list[dict[str, Tensor]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The part's name: the same rows, the same name, whoever computes them."""
        return "p" + hashlib.sha256(b"".join(self.ids)).hexdigest()[:16]


@final
class Builder:
    """Adds the missing rows of a data set to an entry.

    run       inputs → leaf → rows, the trunk as it is called
    labels    where they are known without reading the examples
    advance   moves the progress bar
    """

    def __init__(
        self, run: Run, draws: Draws, entry: Entry, leaves: Sequence[LeafLike], *, batch_size: int, precision: str,
        labels: Tensor | None = None, workers: int | None = None, advance: Callable[..., None] = lambda *_, **__: None,
    ) -> None:  # fmt: skip
        self.run, self.draws, self.entry, self.leaves = run, draws, entry, leaves
        self.batch_size, self.precision, self.workers, self.advance = batch_size, precision, workers, advance
        self.part_rows = part_rows(leaves, batch_size)
        self.computed = 0
        self.labels = labels
        self._labels_known = labels is not None
        self.ids = np.zeros((len(draws), ID_BYTES), np.uint8) if draws.ids is None else draws.ids
        self._others: list[_Group] = []
        self._group: _Group | None = None
        self._pending: list[tuple[Tensor, Inputs, np.ndarray]] = []
        self._leased: set[str] = set()
        self._mark = ""  # the data set by its count and first row: an interrupted build's mark is found by the next
        self._begun = False

    def build(self) -> None:
        """Compute what is missing; on return every row of the data set is in the entry.

        Raises CacheError when the store cannot take a part; what was committed stays, and the next build goes on.
        """
        self._before = StoredRows(self.entry, self.leaves).index()
        self._seen: set[bytes] = set()
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
            self._seen.clear()
            if not len(rows):
                return
        for block, inputs, labels, ids in self.draws.batches(rows, self.batch_size, workers=self.workers):
            self._note(block, labels, ids)
            missing = self._missing(ids)
            self.advance(int((~missing).sum()))
            if missing.any():
                at = torch.from_numpy(np.flatnonzero(missing))
                if not missing.all():
                    inputs = map_tensors(lambda tensor, at=at: tensor.index_select(0, at.to(tensor.device)), inputs)
                self._pending.append((block[at], inputs, ids[missing]))
                self._flush(size, whole_only=True)
        self._flush(size, whole_only=False)

    def _note(self, rows: Tensor, labels: Tensor, ids: np.ndarray) -> None:
        self._mark = self._mark or mark_of(len(self.draws), ids[0])
        if self._labels_known:
            return
        if self.labels is None:
            self.labels = labels.new_zeros((len(self.draws.examples), *labels.shape[1:]))
        self.labels[torch.div(rows, self.draws.views, rounding_mode="floor")] = labels
        if self.draws.ids is None:
            self.ids[rows.numpy()] = ids

    def _missing(self, ids: np.ndarray) -> np.ndarray:
        """Which rows neither the store had at the start nor this pass has met: the second of two equal inputs."""
        missing = self._before.find(ids) < 0
        for at in np.flatnonzero(missing):
            key = ids[at].tobytes()
            missing[at] = key not in self._seen
            self._seen.add(key)
        return missing

    def _flush(self, size: int, *, whole_only: bool) -> None:
        """Compute pending rows by batches of `size`."""
        while (count := sum(len(rows) for rows, _, _ in self._pending)) >= size or (count and not whole_only):
            rows = torch.cat([rows for rows, _, _ in self._pending])
            inputs = join([inputs for _, inputs, _ in self._pending])
            ids = np.concatenate([ids for _, _, ids in self._pending])
            taken = min(size, count)
            self._pending = []
            if taken < count:
                self._pending = [(rows[taken:], first_rows(inputs, taken, count), ids[taken:])]
            self._compute(rows[:taken], first_rows(inputs, 0, taken), ids[:taken], size)

    def _compute(self, rows: Tensor, inputs: Inputs, ids: np.ndarray, size: int) -> None:
        if self._group is None:
            self._group = self._start_group(ids)
        group = self._group
        group.rows += rows.tolist()
        group.ids += [row.tobytes() for row in ids]
        if group.mine:
            group.outputs.append(self._outputs(inputs, len(rows), size))
            self.computed += len(rows)
        self.advance(len(rows))
        if len(group.rows) >= self.part_rows:
            self._end_group()

    def _outputs(self, inputs: Inputs, count: int, size: int) -> dict[str, Tensor]:
        outputs = self.run(padded(inputs, count, size))
        check_outputs(outputs, self.leaves, size)
        return {leaf.name: outputs[leaf.name][:count].detach().to("cpu", copy=True) for leaf in self.leaves}

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
            rows = padded_cat([outputs[leaf.name] for outputs in group.outputs])
            tensors |= encode(leaf.name, rows, self.precision)
        self.entry.commit(group.name, np.frombuffer(b"".join(group.ids), np.uint8).reshape(-1, ID_BYTES), tensors)
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
                group.outputs.append(self._outputs(self.draws.inputs_of(block), len(block), size))
                self.computed += len(block)
        self._commit(group)


def check_outputs(outputs: Mapping[str, Tensor], leaves: Sequence[LeafLike], count: int) -> None:
    """Raise CacheError when the trunk gave other leaves, rows or dtypes than its cut tells."""
    for leaf in leaves:
        got = outputs.get(leaf.name)
        if got is None:
            raise CacheError(f"The trunk gave no {leaf.name!r}; it gave {', '.join(outputs)}.")
        if len(got) != count or got.dtype != leaf.dtype:
            raise CacheError(
                f"The trunk gave {leaf.name} with shape {tuple(got.shape)} and {got.dtype} for {count} examples; the "
                f"cut tells one row of {leaf.shape} per example, {leaf.dtype}."
            )


def whole(draws: Draws, run: Run, leaves: Sequence[LeafLike], *, batch_size: int, workers: int | None,
          advance: Callable[..., None]) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """All rows in memory, in the data set's order, and the labels: no store, no ids."""
    tensors: dict[str, Tensor] = {}
    labels: Any = None
    for rows, inputs, some, _ in draws.batches(torch.arange(len(draws)), batch_size, workers=workers):
        outputs = run(inputs)
        check_outputs(outputs, leaves, len(rows))
        if not tensors:
            tensors = {leaf.name: torch.zeros((len(draws), *outputs[leaf.name].shape[1:]), dtype=leaf.dtype)
                       for leaf in leaves}  # fmt: skip
            labels = some.new_zeros((len(draws.examples), *some.shape[1:]))
        for name in tensors:
            _put(tensors, name, rows, outputs[name])
        labels[torch.div(rows, draws.views, rounding_mode="floor")] = some
        advance(len(rows))
    return tensors, labels


def _put(tensors: dict[str, Tensor], name: str, rows: Tensor, values: Tensor) -> None:
    """Write rows into a tensor, which grows when they are longer than those before."""
    if tensors[name].shape[1:] != values.shape[1:]:
        tensors[name] = padded_to(tensors[name], (len(tensors[name]), *longest([tensors[name][:1], values[:1]])[1:]))
    place: Any = (rows, *(slice(size) for size in values.shape[1:]))
    tensors[name][place] = values.to(tensors[name].device)


def mark_of(count: int, first: np.ndarray) -> str:
    """A data set's name in the list of builds under way."""
    return f"{count}-{first.tobytes().hex()[:16]}"


def positions_of(ids: np.ndarray, index: Index, views: int) -> Tensor:
    """Where the row of each example and view lies: (count, views) int64."""
    found = index.find(ids)
    assert (found >= 0).all(), "every row was built"
    return torch.from_numpy(found).view(-1, views)
