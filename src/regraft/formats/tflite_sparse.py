"""Sparse tensors of TensorFlow Lite: which of a tensor's values are stored, and where the others are zeros.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs (SparsityParameters);
tensorflow/lite/kernels/internal/utils/sparsity_format_converter.cc.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from regraft.containers.flatbuffer import FlatTable
from regraft.errors import CheckpointError

_MOST_ZEROS = 256  # values of the tensor for each stored one: a small file must not ask for a large array
_INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "u1"}


@dataclass(frozen=True)
class _Level:
    """One axis, in the order in which the values are stored.

    size      of the axis
    segments  for each position of the level above, where its indices begin; None for an axis of which all is stored
    indices   the places on the axis that are stored
    """

    size: int
    segments: np.ndarray | None
    indices: np.ndarray


@dataclass(frozen=True)
class Sparsity:
    """How stored values become a tensor.

    levels  the axes, outermost first
    order   for each level its axis; axes from the tensor's rank on are blocks inside another axis
    blocks  for each block the axis that it divides
    """

    levels: tuple[_Level, ...]
    order: tuple[int, ...]
    blocks: tuple[int, ...]

    def dense(self, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The tensor, with zeros where nothing is stored.

        stored  (n,), in the order of the file

        Raises CheckpointError (without a file's name) when the indices do not fit the shape or the stored values.
        """
        if prod(shape) > _MOST_ZEROS * max(len(stored), 1):
            raise CheckpointError(f"{len(stored)} stored values cannot make a sparse tensor of shape {shape}")
        positions, places = np.zeros(1, np.int64), np.zeros((1, 0), np.int64)
        for level in self.levels:
            positions, places = _entered(level, positions, places, prod(shape))
        if not np.array_equal(positions, np.arange(len(stored))):
            raise CheckpointError(f"{len(stored)} values are stored, the indices name {len(positions)}")
        dense = np.zeros(shape, stored.dtype)
        dense[tuple(self._axes(places, shape))] = stored
        return dense

    def _axes(self, places: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
        """The indices of each axis of the tensor."""
        of_axis = {axis: places[:, level] for level, axis in enumerate(self.order)}
        sizes = {axis: self.levels[level].size for level, axis in enumerate(self.order)}
        indices = []
        for axis, size in enumerate(shape):
            block = len(shape) + self.blocks.index(axis) if axis in self.blocks else None
            index = of_axis[axis] if block is None else of_axis[axis] * sizes[block] + of_axis[block]
            if index.size and int(index.max()) >= size:
                raise CheckpointError(f"a sparse tensor of shape {shape} has index {int(index.max())} on axis {axis}")
            indices.append(index)
        return indices


def _entered(level: _Level, positions: np.ndarray, places: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions, indices of all axes so far) after one more axis."""
    if level.segments is None:
        counts = np.full(len(positions), level.size)
        starts = positions * level.size
    else:
        if positions.size and int(positions.max()) + 1 >= len(level.segments):
            raise CheckpointError("a sparse tensor has too few segments")
        starts, counts = level.segments[positions], level.segments[positions + 1] - level.segments[positions]
    total = int(counts.sum())
    if (counts < 0).any() or total > most:
        raise CheckpointError("the segments of a sparse tensor do not fit its shape")
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    after = np.repeat(starts, counts) + within
    if level.segments is not None and total and not 0 <= int(after.min()) <= int(after.max()) < len(level.indices):
        raise CheckpointError("a sparse tensor has too few indices")
    index = within if level.segments is None else level.indices[after]
    return after, np.concatenate([np.repeat(places, counts, axis=0), index[:, None]], axis=1)


def sparsity_of(table: FlatTable | None, rank: int) -> Sparsity | None:
    """What the file says of a sparse tensor; None for a dense one.

    table  SparsityParameters

    Raises CheckpointError (without a file's name) when the axes are not those of a tensor of this rank.
    """
    if table is None:
        return None
    order = tuple(int(axis) for axis in table.numbers(0, "<i4"))
    blocks = tuple(int(axis) for axis in table.numbers(1, "<i4"))
    levels = tuple(map(_level, table.tables(2)))
    if sorted(order) != list(range(rank + len(blocks))) or len(levels) != len(order) or len(set(blocks)) != len(blocks):
        raise CheckpointError(f"a sparse tensor of {rank} axes has the axes {order} and blocks {blocks}")
    if any(axis not in range(rank) for axis in blocks) or any(level.size < 0 for level in levels):
        raise CheckpointError(f"a sparse tensor of {rank} axes has blocks in {blocks}")
    return Sparsity(levels, order, blocks)


def _level(table: FlatTable) -> _Level:
    size = int(table.number(1, "i"))
    if not table.number(0, "b"):
        return _Level(size, None, np.empty(0, np.int64))
    return _Level(size, _vector(table, 2), _vector(table, 4))


def _vector(table: FlatTable, field: int) -> np.ndarray:
    """A vector of integers, which the file stores in one of three widths."""
    dtype, inner = _INDEX_TYPES.get(int(table.number(field, "B"))), table.table(field + 1)
    if dtype is None or inner is None:
        raise CheckpointError("a sparse tensor has no indices")
    return inner.numbers(0, dtype).astype(np.int64)
