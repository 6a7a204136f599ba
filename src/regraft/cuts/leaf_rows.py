"""A leaf as rows, one for each example, and back to the tensor that the forward handed on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.cuts.record import Value


@dataclass(frozen=True)
class LeafRows:
    """Where the examples lie in a leaf.

    axis   the dimension along which they lie
    each   how many consecutive places along it belong to one example (windows, heads); 0 where a length decides it
    shape, stride  of the recorded tensor
    """

    axis: int
    each: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def to_rows(self, tensor: Tensor, rows: int | None) -> Tensor:
        """The leaf with one row per example, in front; `rows` says how many examples there are."""
        if self.each > 1:
            tensor = tensor.unflatten(self.axis, (-1, self.each))
        elif not self.each:
            tensor = tensor.unflatten(self.axis, (rows or 1, -1))
        return tensor.movedim(self.axis, 0)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The tensor that the forward handed on, in the same memory order: kernels may round by it."""
        if self.axis == 0 and self.each == 1 and rows.stride() == self.stride:
            return rows
        tensor = rows.movedim(0, self.axis)
        if self.each != 1:
            tensor = tensor.flatten(self.axis, self.axis + 1)
        return _laid_out(tensor, self.stride, self.shape)


def rows_of(value: Value, place: tuple[int, int] | None) -> LeafRows | None:
    """How a recorded value is turned into rows; None where it has none."""
    return None if place is None else LeafRows(*place, value.shape, value.stride)


def _laid_out(tensor: Tensor, stride: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The tensor with the recorded strides, or, where sizes are others, with its dimensions in the recorded order."""
    if tuple(tensor.shape[1:]) == shape[1:] and stride and stride[0] == max(stride) and 0 not in stride:
        wanted = stride
    else:
        order = sorted(range(len(stride)), key=lambda axis: (-stride[axis], axis))
        sizes, step = [0] * len(stride), 1
        for axis in reversed(order):
            sizes[axis] = step
            step *= max(1, tensor.shape[axis])
        wanted = tuple(sizes)
    if tensor.stride() == wanted:
        return tensor
    return torch.empty_strided(tensor.shape, wanted, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
