"""Rows of different sizes: their values one after the other, and each row's own shape."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import final

import torch
from torch import Tensor

from regraft.caches.precision import decode_rows, encode, encode_by_steps, int8_steps
from regraft.cuts.cut import Leaf

SHAPES = "/shapes"  # what follows a leaf's name in the name of its rows' shapes


@final
class Ragged:
    """Rows of different shapes, kept without what fills them up.

    values  (elements,), each row's values in a line
    shapes  (rows, dimensions) int64
    starts  (rows,) int64, where each row begins; None: one after the other
    """

    def __init__(self, values: Tensor, shapes: Tensor, starts: Tensor | None = None) -> None:
        self.values, self.shapes = values, shapes.long()
        ends = self.shapes.prod(1).cumsum(0)
        self.starts = ends - self.shapes.prod(1) if starts is None else starts

    def __len__(self) -> int:
        return len(self.shapes)

    def index_select(self, _dimension: int, indices: Tensor) -> Tensor:
        """The rows at `indices` (batch,) in one tensor, each with zeros at its ends up to the longest of them."""
        shapes = self.shapes.index_select(0, indices)
        longest = shapes.amax(0) if len(indices) else shapes.sum(0)
        out = self.values.new_zeros((len(indices), *longest.tolist()))
        starts = self.starts.index_select(0, indices).tolist()
        for number, (start, shape) in enumerate(zip(starts, shapes.tolist(), strict=True)):
            row = self.values[start : start + prod(shape)].view(shape)
            out[number][tuple(slice(size) for size in shape)] = row
        return out

    def reordered(self, indices: Tensor) -> "Ragged":
        """The same values with the rows in this order."""
        return Ragged(self.values, self.shapes[indices], self.starts[indices])

    @property
    def channels(self) -> int:
        """The last dimension's size where all rows have the same, else 1."""
        last = self.shapes[:, -1]
        return int(last[0]) if last[0] and bool((last == last[0]).all()) else 1

    @property
    def bytes(self) -> int:
        """Of the values and the shapes."""
        return self.values.numel() * self.values.element_size() + self.shapes.numel() * self.shapes.element_size()


Column = Tensor | Ragged  # one leaf's rows


def ragged_leaves(leaves: Iterable[Leaf]) -> tuple[str, ...]:
    """The names of the leaves whose rows may have different sizes."""
    return tuple(leaf.name for leaf in leaves if leaf.varying)


def column_of(rows: Sequence[Tensor]) -> Column:
    """Rows (…) of one leaf: a tensor when they have one shape, else ragged."""
    shapes = torch.tensor([row.shape for row in rows])
    values = torch.cat([row.reshape(-1) for row in rows])
    return Ragged(values, shapes) if (shapes != shapes[0]).any() else values.view(len(rows), *rows[0].shape)


def encode_column(leaf: str, column: Column, precision: str) -> dict[str, Tensor]:
    """The tensors to be stored for a leaf's rows, see `precision.encode`.

    Of ragged rows the values (elements,), and beside them under `leaf/shapes` their shapes, int32. int8 then has a
    step for each place in the last dimension, where that has one size, and one for all where it has not.
    """
    if isinstance(column, Tensor):
        return encode(leaf, column, precision)
    channels = column.channels
    repeats = column.shapes.prod(1) // channels
    if precision == "int8" and column.values.is_floating_point():
        stored = _encode_int8(leaf, column.values.view(-1, channels), repeats)
    else:
        stored = encode(leaf, column.values.view(-1, channels), precision)
    return stored | {leaf: stored[leaf].view(-1), leaf + SHAPES: column.shapes.int()}


def decode_values(
    values: Tensor, dtype: torch.dtype, steps: Tensor | None, own: Tensor | None = None, repeats: Tensor | None = None
) -> Tensor:
    """Values (elements,) in the leaf's own dtype, from what `encode_column` stored.

    own      (rows,) the rows' own steps
    repeats  (rows,) how often each row has all channels among the values
    """
    if steps is None:
        return values.to(dtype)
    places = None if own is None or repeats is None else own.repeat_interleave(repeats)
    return decode_rows(values.view(-1, len(steps)), dtype, steps, places).view(-1)


def _encode_int8(leaf: str, places: Tensor, repeats: Tensor) -> dict[str, Tensor]:
    """As `precision.encode`, with the rows' own steps by row.

    places   (elements / channels, channels)
    repeats  (rows,) places of each row
    """
    rows = torch.split(places, repeats.tolist())
    sizes = torch.stack([row.abs().amax(0) if len(row) else places.new_zeros(places.shape[1]) for row in rows])
    steps, own = int8_steps(sizes.float())
    return encode_by_steps(leaf, places, steps, own, own.repeat_interleave(repeats))
