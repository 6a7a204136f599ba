"""Rows of different sizes: their values one after the other, and each row's own shape."""

from collections.abc import Sequence
from math import prod
from typing import final

import torch
from torch import Tensor


@final
class Ragged:
    """Rows of different shapes, kept without what fills them up.

    values  (elements,), each row's values in a line
    shapes  (rows, dimensions) int64
    starts  (rows,) int64, where each row begins; None: one after the other
    fill    what stands at the ends of shorter rows in a batch
    """

    def __init__(self, values: Tensor, shapes: Tensor, starts: Tensor | None = None, *, fill: float = 0) -> None:
        self.values, self.shapes, self.fill = values, shapes.long(), fill
        ends = self.shapes.prod(1).cumsum(0)
        self.starts = ends - self.shapes.prod(1) if starts is None else starts

    def __len__(self) -> int:
        return len(self.shapes)

    def index_select(self, _dimension: int, indices: Tensor) -> Tensor:
        """The rows at `indices` (batch,) in one tensor, each filled at its ends up to the longest of them."""
        shapes = self.shapes.index_select(0, indices)
        longest = shapes.amax(0) if len(indices) else shapes.sum(0)
        out = self.values.new_full((len(indices), *longest.tolist()), self.fill)
        starts = self.starts.index_select(0, indices).tolist()
        for number, (start, shape) in enumerate(zip(starts, shapes.tolist(), strict=True)):
            row = self.values[start : start + prod(shape)].view(shape)
            out[number][tuple(slice(size) for size in shape)] = row
        return out

    def reordered(self, indices: Tensor) -> "Ragged":
        """The same values with the rows in this order."""
        return Ragged(self.values, self.shapes[indices], self.starts[indices], fill=self.fill)

    def row(self, index: int) -> Tensor:
        """One row as it is."""
        shape, start = self.shapes[index].tolist(), int(self.starts[index])
        return self.values[start : start + prod(shape)].view(shape)

    @property
    def device(self) -> torch.device:
        """Where the values lie."""
        return self.values.device

    @property
    def channels(self) -> int:
        """The last dimension's size where all rows have the same, else 1."""
        last = self.shapes[:, -1]
        return int(last[0]) if last[0] and bool((last == last[0]).all()) else 1

    @property
    def bytes(self) -> int:
        """Of the values and the shapes."""
        return self.values.numel() * self.values.element_size() + self.shapes.numel() * self.shapes.element_size()


Column = Tensor | Ragged  # a row for each example
KINDS = (Tensor, Ragged)  # of columns in a nested structure


def column_of(rows: Sequence[Tensor], *, fill: float = 0) -> Column:
    """Rows (…): a tensor when they have one shape, else ragged."""
    if all(row.shape == rows[0].shape for row in rows):
        return torch.stack([*rows])
    shapes = torch.tensor([row.shape for row in rows])
    return Ragged(torch.cat([row.reshape(-1) for row in rows]), shapes, fill=fill)


def rows_of(column: Column) -> list[Tensor]:
    """Each row as it is."""
    return list(column) if isinstance(column, Tensor) else [column.row(index) for index in range(len(column))]
