"""Rows of features, wherever they lie: whole columns in memory, or the parts of a store."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.ids import Index
from regraft.caches.precision import OWN_SCALE, SCALE, decode_rows
from regraft.caches.ragged import SHAPES, decode_values
from regraft.cuts.cut import Leaf
from regraft.errors import CacheError
from regraft.stores.shards import DTYPES
from regraft.stores.store import Entry, Part
from regraft.tensors.fingerprints import ID_BYTES
from regraft.tensors.ragged import Column, Ragged

MEMORY_BYTES = 256 << 20  # that streaming uses when nobody says less
DECODE_BYTES = 1 << 20  # of rows stored in a lower precision that are turned back at once
Runs = np.ndarray  # (runs, 2) int64: first row, and the row after the last one; ascending

HOLD_BYTES = 16 << 20  # of rows that are on their way to their place in memory


class Rows(ABC):
    """Rows by their position, 0 … count - 1."""

    @abstractmethod
    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """The rows at these positions (batch,) int64, in this order, in each leaf's own dtype.

        Of rows of different sizes the shorter ones end in zeros, up to the longest of them.
        """

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes of all rows as they are kept."""


@final
class HeldRows(Rows):
    """Whole columns in memory or on a device, in each leaf's own dtype.

    ids  (rows, 16) uint8 by which a store knows them; None where nobody asked for ids
    """

    def __init__(self, columns: Mapping[str, Column], ids: np.ndarray | None = None) -> None:
        self.columns, self.ids = dict(columns), ids

    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """One `index_select` for each leaf."""
        return {
            leaf: column.index_select(0, positions.to(_device(column), non_blocking=True))
            for leaf, column in self.columns.items()
        }

    def select(self, positions: Tensor) -> "HeldRows":
        """The rows at these positions alone."""
        columns = {
            leaf: column.reordered(positions) if isinstance(column, Ragged) else column[positions.to(column.device)]
            for leaf, column in self.columns.items()
        }
        return HeldRows(columns, None if self.ids is None else self.ids[positions.numpy()])

    @property
    def tensors(self) -> dict[str, Tensor] | None:
        """The columns where all are whole tensors, else None."""
        tensors = {leaf: column for leaf, column in self.columns.items() if isinstance(column, Tensor)}
        return tensors if len(tensors) == len(self.columns) else None

    @property
    def bytes(self) -> int:
        """Bytes of the columns."""
        return sum(
            column.bytes if isinstance(column, Ragged) else column.numel() * column.element_size()
            for column in self.columns.values()
        )


@final
class StoredRows(Rows):
    """The rows of an entry's parts, one part after the other in the order of their names; read when asked for.

    memory_bytes  that streaming them may use
    """

    def __init__(self, entry: Entry, leaves: Sequence[Leaf], *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.entry, self.leaves, self.memory_bytes = entry, list(leaves), min(memory_bytes, MEMORY_BYTES)
        self.parts: list[Part] = []
        self.starts = np.zeros(1, np.int64)
        self._kept: dict[tuple[str, str], Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in the parts that are committed now. Positions given out before are void."""
        self.parts = self.entry.parts()
        wanted = {leaf.name for leaf in self.leaves}
        for part in {id(part.tensors): part for part in self.parts}.values():  # most parts share one layout
            if missing := wanted - set(part.tensors):
                raise CacheError(f"Part {part.name} of entry {self.entry.key} lacks the leaves {sorted(missing)}.")
        self.starts = np.cumsum([0, *(part.count for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(DTYPES[word].itemsize * prod(shape) for part in self.parts for word, shape in part.tensors.values())

    def index(self) -> Index:
        """Where each id's row is."""
        ids = [part.ids for part in self.parts]
        return Index(np.concatenate(ids) if ids else np.empty((0, ID_BYTES), np.uint8))

    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """Each row is read once, in the order in which it lies."""
        columns, indices = self.read(positions)
        return HeldRows(columns).gather(indices)

    def read(
        self, positions: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Column], Tensor]:  # fmt: skip
        """The rows at `positions` (count,), each once in the order in which it lies, and each position's index there.

        buffers  leaf → tensor whose first rows take those of a leaf that has one size, so that the same memory is used
                 again and again
        """
        ascending, indices = _ascending(positions)
        pieces = self._by_part(ascending)
        columns = {leaf.name: self._column(leaf, pieces, (buffers or {}).get(leaf.name)) for leaf in self.leaves}
        return columns, indices

    def buffers(self, count: int) -> dict[str, Tensor]:
        """Memory for `read`, room for `count` rows of each leaf that has one size."""
        whole = [(part, np.empty((0, 2), np.int64)) for part in self.parts]
        sizes = [(leaf, self._size(leaf, whole)) for leaf in self.leaves]
        return {leaf.name: torch.empty((count, *size), dtype=leaf.dtype) for leaf, size in sizes if size is not None}

    def hold(self, positions: Tensor) -> HeldRows:
        """All rows at `positions` (count,) in memory, in this order, without a second copy of them."""
        ascending, indices = _ascending(positions)
        columns: dict[str, Column] = {}
        for leaf in self.leaves:
            pieces = self._by_part(ascending)
            size = self._size(leaf, pieces)
            if size is None:
                columns[leaf.name] = self._ragged(leaf, pieces).reordered(indices)
                continue
            out = torch.empty((len(positions), *size), dtype=leaf.dtype)
            for some in positions.argsort(stable=True).split(max(1, HOLD_BYTES // max(1, leaf.bytes_per_example))):
                wanted, wanted_indices = _ascending(positions[some])
                out.index_copy_(
                    0, some, self._column(leaf, self._by_part(wanted), None).index_select(0, wanted_indices)
                )
            columns[leaf.name] = out
        ids = [part.ids for part in self.parts]
        return HeldRows(columns, np.concatenate(ids)[positions.numpy()] if ids else None)

    def row_bytes(self, positions: Tensor) -> Tensor:
        """Bytes of each of these rows (count,) int64, in the leaves' own dtypes."""
        total = torch.zeros(len(positions), dtype=torch.int64)
        numbers = torch.from_numpy(np.searchsorted(self.starts, positions.numpy(), "right") - 1)
        for leaf in self.leaves:
            total += self._row_values(leaf.name, positions, numbers) * leaf.dtype.itemsize
        return total

    def _row_values(self, leaf: str, positions: Tensor, numbers: Tensor) -> Tensor:
        """How many values each row of a leaf has: (count,) int64.

        numbers  of the part in which each row lies
        """
        sizes = torch.tensor([prod(part.tensors[leaf][1][1:]) for part in self.parts])
        if not any(leaf + SHAPES in part.tensors for part in self.parts):
            return sizes[numbers]
        values = sizes[numbers]
        for number, part in enumerate(self.parts):
            if leaf + SHAPES in part.tensors:
                inside = numbers == number
                rows = positions[inside] - int(self.starts[number])
                values[inside] = self._shapes(part, leaf)[rows].long().prod(1)
        return values

    def _by_part(self, ascending: np.ndarray) -> list[tuple[Part, Runs]]:
        """The runs of rows that are wanted of each part, counted within it."""
        numbers = np.searchsorted(self.starts, ascending, "right") - 1
        runs = _runs(ascending, ascending + 1, np.flatnonzero(np.diff(numbers)))
        numbers = np.searchsorted(self.starts, runs[:, 0], "right") - 1
        runs -= self.starts[numbers][:, None]
        bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(runs)]
        return [(self.parts[numbers[a]], runs[a:b]) for a, b in pairwise(bounds) if b > a]

    def _size(self, leaf: Leaf, pieces: Sequence[tuple[Part, np.ndarray]]) -> tuple[int, ...] | None:
        """The one shape that all rows have; None where they have several."""
        if any(leaf.name + SHAPES in part.tensors for part, _ in pieces):
            return None
        sizes = {part.tensors[leaf.name][1][1:] for part, _ in pieces} or {leaf.shape}
        return sizes.pop() if len(sizes) == 1 else None

    def _column(self, leaf: Leaf, pieces: Sequence[tuple[Part, Runs]], buffer: Tensor | None) -> Column:
        size = self._size(leaf, pieces)
        if size is None:
            return self._ragged(leaf, pieces)
        count = sum(_length(runs) for _, runs in pieces)
        out = _room(buffer, count, size, leaf.dtype)
        if all(self._is_exact(part, leaf) for part, _ in pieces):
            self.entry.read_into(out, leaf.name, [(part, runs.tolist()) for part, runs in pieces])
            return out
        filled = 0
        for part, runs in pieces:
            self._read(out[filled : filled + _length(runs)], part, leaf, runs)
            filled += _length(runs)
        return out

    def _ragged(self, leaf: Leaf, pieces: Sequence[tuple[Part, Runs]]) -> Ragged:
        shapes = [self._shapes(part, leaf.name)[start:stop] for part, runs in pieces for start, stop in runs.tolist()]
        every = torch.cat(shapes)
        values, filled = torch.empty(int(every.prod(1).sum()), dtype=leaf.dtype), 0
        for part, runs in pieces:
            within = self._ends(part, leaf.name)[runs]
            out = values[filled : filled + _length(within)]
            if leaf.name + SHAPES in part.tensors:
                self._read_values(out, part, leaf, runs, within)
            else:
                self._read(out.view(-1, *part.tensors[leaf.name][1][1:]), part, leaf, runs)
            filled += len(out)
        return Ragged(values, every)

    def _read_values(self, out: Tensor, part: Part, leaf: Leaf, runs: Runs, within: Runs) -> None:
        """Fill `out` (elements,) with the values of these runs of ragged rows, decoded.

        within  the runs, counted in elements
        """
        if self._is_exact(part, leaf):
            self.entry.read_into(out, leaf.name, [(part, _runs(within[:, 0], within[:, 1]).tolist())])
            return
        ends, filled = self._ends(part, leaf.name), 0
        limit = DECODE_BYTES * _length(runs) // max(1, len(out) * leaf.dtype.itemsize)
        for some in _portions(runs.tolist(), limit):
            within = ends[np.array(some)]
            steps, own = self._steps(part, leaf.name, some)
            shapes = torch.cat([self._shapes(part, leaf.name)[start:stop] for start, stop in some])
            repeats = shapes.long().prod(1) // (1 if steps is None else len(steps))
            stored = torch.empty(_length(within), dtype=DTYPES[part.tensors[leaf.name][0]])
            self.entry.read_into(stored, leaf.name, [(part, _runs(within[:, 0], within[:, 1]).tolist())])
            out[filled : filled + len(stored)] = decode_values(stored, leaf.dtype, steps, own, repeats)
            filled += len(stored)

    def _ends(self, part: Part, leaf: str) -> np.ndarray:
        """Where each ragged row begins among the part's values, and where the last one ends."""
        return np.concatenate([[0], self._shapes(part, leaf).long().prod(1).cumsum(0).numpy()])

    def _read(self, out: Tensor, part: Part, leaf: Leaf, runs: Runs) -> None:
        """Fill `out` (rows, …) with these runs of one part, decoded."""
        if self._is_exact(part, leaf):
            self.entry.read_into(out, leaf.name, [(part, runs.tolist())])
            return
        filled, limit = 0, DECODE_BYTES // max(1, out[:1].numel() * leaf.dtype.itemsize)
        for some in _portions(runs.tolist(), limit):
            count = sum(stop - start for start, stop in some)
            stored = torch.empty((count, *out.shape[1:]), dtype=DTYPES[part.tensors[leaf.name][0]])
            self.entry.read_into(stored, leaf.name, [(part, some)])
            out[filled : filled + count] = decode_rows(stored, leaf.dtype, *self._steps(part, leaf.name, some))
            filled += count

    def steps(self, positions: Tensor) -> dict[str, Tensor]:
        """The int8 steps of the rows at these positions, for each leaf that is stored so, to be broadcast over a row.

        Each is (rows, channels), or (rows, channels, 1, 1) for maps.
        """
        ascending, indices = _ascending(positions)
        steps: dict[str, Tensor] = {}
        for leaf in self.leaves:
            each = []
            for part, runs in self._by_part(ascending):
                channels, own = self._steps(part, leaf.name, runs)
                if channels is not None:
                    alone = torch.zeros(_length(runs)) if own is None else own
                    each.append(torch.where(alone[:, None] > 0, alone[:, None], channels))
            if each:
                rows = torch.cat(each)[indices]
                steps[leaf.name] = rows[..., None, None] if len(leaf.shape) == 3 else rows
        return steps

    def _is_exact(self, part: Part, leaf: Leaf) -> bool:
        """Whether the rows are stored as they are."""
        return DTYPES[part.tensors[leaf.name][0]] == leaf.dtype and leaf.name + SCALE not in part.tensors

    def _steps(
        self, part: Part, leaf: str, runs: Runs | Sequence[tuple[int, int]]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The channels' steps of a part, and the own steps of the rows in these runs."""
        if leaf + SCALE not in part.tensors:
            return None, None
        steps = self._small(part, leaf + SCALE)
        if leaf + OWN_SCALE not in part.tensors:
            return steps, None
        own = self._small(part, leaf + OWN_SCALE)
        return steps, torch.cat([own[start:stop] for start, stop in runs])

    def _shapes(self, part: Part, leaf: str) -> Tensor:
        """Of each of the part's rows (rows, dimensions) int32."""
        if leaf + SHAPES in part.tensors:
            return self._small(part, leaf + SHAPES)
        return torch.tensor(part.tensors[leaf][1][1:], dtype=torch.int32).expand(part.count, -1)

    def _small(self, part: Part, name: str) -> Tensor:
        """A tensor beside the rows, read once."""
        if (part.name, name) not in self._kept:
            self._kept[part.name, name] = self.entry.read(part, name, 0, part.tensors[name][1][0])
        return self._kept[part.name, name]


def _room(buffer: Tensor | None, count: int, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The first rows of the buffer where they have this size and are enough; else new memory."""
    if buffer is not None and tuple(buffer.shape[1:]) == size and len(buffer) >= count:
        return buffer[:count]
    return torch.empty((count, *size), dtype=dtype)


def _ascending(positions: Tensor) -> tuple[np.ndarray, Tensor]:
    """The positions in ascending order, each once, and where each of the given ones is among them."""
    given = positions.numpy()
    order = np.argsort(given)
    in_order = given[order]
    is_new = np.concatenate([np.ones(min(1, len(given)), bool), in_order[1:] != in_order[:-1]])
    indices = np.empty(len(given), np.int64)
    indices[order] = np.cumsum(is_new) - 1
    return in_order[is_new], torch.from_numpy(indices)


def _runs(starts: np.ndarray, stops: np.ndarray, breaks: np.ndarray | None = None) -> Runs:
    """Ascending ranges, those put together that touch each other, those left out that are empty.

    breaks  numbers of ranges that are not put together with the next one, where none is empty
    """
    starts, stops = starts[stops > starts], stops[stops > starts]
    ends_here = np.append(starts[1:] != stops[:-1], np.ones(min(1, len(starts)), bool))
    if breaks is not None:
        ends_here[breaks] = True
    begins_here = np.roll(ends_here, 1)
    return np.stack([starts[begins_here], stops[ends_here]], axis=1)


def _length(runs: Runs) -> int:
    """Rows of all runs."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def _portions(runs: Sequence[tuple[int, int]], limit: int) -> Iterator[list[tuple[int, int]]]:
    """The runs in portions of at most `limit` rows (one at least)."""
    portion: list[tuple[int, int]] = []
    room = limit = max(1, limit)
    for first, stop in runs:
        start = first
        while start < stop:
            taken = min(room, stop - start)
            portion.append((start, start + taken))
            start, room = start + taken, room - taken
            if not room:
                yield portion
                portion, room = [], limit
    if portion:
        yield portion


def _device(column: Column) -> torch.device:
    return column.values.device if isinstance(column, Ragged) else column.device
