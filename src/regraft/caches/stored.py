"""Rows of features, wherever they lie: whole tensors in memory, or the parts of a store."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.precision import SCALE, decode
from regraft.errors import CacheError
from regraft.fingerprints import ID_BYTES
from regraft.stores.store import Entry, Part

MEMORY_BYTES = 256 << 20  # that streaming uses when nobody says less


class LeafLike(Protocol):
    """What is told of one tensor that crosses from trunk to head; see `cutting.Leaf`."""

    @property
    def name(self) -> str:
        """Unique among the leaves."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of one example; None for a size that varies."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensor that the head takes."""

    @property
    def bytes_per_example(self) -> int:
        """Bytes of one row."""


class Rows(ABC):
    """Rows by their position, 0 … count - 1."""

    @abstractmethod
    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """The rows at these positions (batch,) int64, in this order, in each leaf's own dtype."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes of all rows as they are kept."""


@final
class HeldRows(Rows):
    """Whole tensors in memory or on a device, in each leaf's own dtype."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """One `index_select` for each leaf."""
        return {
            leaf: tensor.index_select(0, positions.to(tensor.device, non_blocking=True))
            for leaf, tensor in self.tensors.items()
        }

    @property
    def bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


@final
class StoredRows(Rows):
    """The rows of an entry's parts, one part after the other in the order of their names; read when asked for.

    memory_bytes  that streaming them may use: mapped pages are given back after an eighth of it
    """

    def __init__(self, entry: Entry, leaves: Sequence[LeafLike], *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.entry, self.leaves, self.memory_bytes = entry, list(leaves), min(memory_bytes, MEMORY_BYTES)
        self.parts: list[Part] = []
        self.starts = np.zeros(1, np.int64)
        self._read = 0
        self._scales: dict[tuple[str, str], Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in the parts that are committed now. Positions given out before are void."""
        self.parts = self.entry.parts()
        wanted = {leaf.name for leaf in self.leaves}
        for part in self.parts:
            if missing := wanted - set(part.tensors):
                raise CacheError(f"Part {part.name} of entry {self.entry.key} lacks the leaves {sorted(missing)}.")
        self.starts = np.cumsum([0, *(part.count for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        sizes = {word: torch.empty(0, dtype=dtype).element_size() for word, dtype in _dtypes().items()}
        return sum(sizes[word] * int(np.prod(shape)) for part in self.parts for word, shape in part.tensors.values())

    def index(self) -> "Index":
        """Where each id's row is."""
        ids = [part.ids for part in self.parts]
        return Index(np.concatenate(ids) if ids else np.empty((0, ID_BYTES), np.uint8))

    def gather(self, positions: Tensor) -> dict[str, Tensor]:
        """One `index_select` for each leaf and part that is touched; shorter rows end in zeros."""
        wanted = positions.numpy()
        touched = [self.parts[number] for number in np.unique(np.searchsorted(self.starts, wanted, "right") - 1)]
        out = {}
        for leaf in self.leaves:
            shapes = {part.tensors[leaf.name][1][1:] for part in touched} or {leaf.shape}
            sizes = tuple(max(size) for size in zip(*shapes, strict=True))
            make = torch.empty if len(shapes) == 1 else torch.zeros
            out[leaf.name] = make((len(positions), *sizes), dtype=leaf.dtype)
        self.gather_into(out, positions)
        return out

    def gather_into(self, out: Mapping[str, Tensor], positions: Tensor) -> None:
        """Write the rows at `positions` into the first dimension of each leaf's tensor, in this order."""
        wanted = positions.numpy()
        order = np.argsort(wanted, kind="stable")
        in_order = wanted[order]
        bounds = np.searchsorted(in_order, self.starts)
        for number in np.flatnonzero(np.diff(bounds)):
            chosen = slice(bounds[number], bounds[number + 1])
            local = torch.from_numpy(in_order[chosen] - self.starts[number])
            self._copy(self.parts[number], local, out, torch.from_numpy(order[chosen]))

    def _copy(self, part: Part, local: Tensor, out: Mapping[str, Tensor], to: Tensor) -> None:
        start, stop = int(local[0]), int(local[-1]) + 1
        is_dense, in_line = _is_dense(local), _is_dense(to)
        for leaf in self.leaves:
            rows, scale = self.entry.read(part, leaf.name, start, stop), self._scale(part, leaf.name)
            self._read += len(local) * rows[:1].numel() * rows.element_size()
            if not is_dense:
                rows = rows.index_select(0, (local - start).to(rows.device))
            rows = decode(rows, leaf.dtype, scale).to("cpu")
            ends = tuple(slice(size) for size in rows.shape[1:])
            if in_line:
                out[leaf.name][(slice(int(to[0]), int(to[-1]) + 1), *ends)] = rows
            else:
                out[leaf.name][(slice(None), *ends)].index_copy_(0, to, rows)
        if self._read > self.memory_bytes // 8:
            self.entry.forget()
            self._read = 0

    def _scale(self, part: Part, leaf: str) -> Tensor | None:
        name = leaf + SCALE
        if name not in part.tensors:
            return None
        if (part.name, leaf) not in self._scales:
            self._scales[part.name, leaf] = self.entry.read(part, name, 0, part.tensors[name][1][0])
        return self._scales[part.name, leaf]


@final
class Index:
    """Positions by id: a sorted table, 24 bytes a row."""

    def __init__(self, ids: np.ndarray) -> None:
        flat = np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1)
        self._order = np.argsort(flat, kind="stable")
        self._sorted = flat[self._order]

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The position of each id (count,) int64; -1 where there is none. Of equal ids the first one counts."""
        wanted = np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1)
        if not len(self._sorted):
            return np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(self._sorted, wanted).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], -1)


def _is_dense(numbers: Tensor) -> bool:
    """Whether these are first, first + 1, …, last."""
    return int(numbers[-1] - numbers[0]) + 1 == len(numbers) and bool((numbers.diff() == 1).all())


def _dtypes() -> dict[str, Any]:
    from regraft.stores.shards import DTYPES

    return DTYPES
