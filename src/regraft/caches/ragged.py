"""Rows of different sizes as a store keeps them: their values in a line, and each row's own shape beside them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from regraft.caches.precision import decode_rows, encode, encode_by_steps, int8_steps
from regraft.cuts.cut import Leaf
from regraft.tensors.ragged import Column

SHAPES = "/shapes"  # what follows a leaf's name in the name of its rows' shapes


def ragged_leaves(leaves: Iterable[Leaf]) -> tuple[str, ...]:
    """The names of the leaves whose rows may have different sizes."""
    return tuple(leaf.name for leaf in leaves if leaf.varying)


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
