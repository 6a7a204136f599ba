"""Other batches made from an example: one row more in another order, or another length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.cuts.sizes import ROWS
from regraft.errors import SplitError
from regraft.tensors.trees import map_tree, tensors_of

Arguments = tuple[tuple[object, ...], dict[str, object]]
_LENGTHS = ("", "length", "width")  # of axis 1, of axis 2


@dataclass(frozen=True)
class Batch:
    """A model's arguments, and which of their sizes are the batch's.

    is_listed  the examples are the items of lists (as detection models take pictures), not rows of tensors
    """

    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    rows: int
    is_listed: bool

    @property
    def all(self) -> Arguments:
        """Positional and keyword arguments."""
        return self.args, dict(self.kwargs)

    def another(self, *, mate: int = 0) -> Arguments:
        """One row more, in the opposite order.

        The new row comes first; of numbers it is the largest row doubled, without signs: a maximum, a mean or a first
        row of the whole batch is then another one, and what depends on it is seen. `mate` 1 gives another new row.
        """
        if self.is_listed:
            return _map_lists(self.all, self.rows, mate)
        order = torch.arange(self.rows + 1).flip(0) % self.rows
        order[0] = mate % self.rows

        def pick(tensor: Tensor) -> Tensor:
            if tensor.shape[:1] != (self.rows,):
                return tensor
            picked = laid_out_like(tensor, tensor.index_select(0, order.to(tensor.device)))
            if tensor.layout != torch.strided:
                return picked
            if tensor.is_floating_point():
                largest = tensor.detach().abs().reshape(self.rows, -1).amax(1).argmax()
                picked[0] = (2 - 3 * mate) * tensor[largest].abs()
            elif self.rows == 1 and tensor.dim() > 1 and mate == 0:
                picked[0] = picked[0].flip(-1)
            return picked

        return map_tree(pick, self.all)

    def order(self) -> Tensor:
        """For each row of `another` the row of this batch that it is; -1 where it is a new one."""
        order = torch.arange(self.rows + 1).flip(0) % self.rows
        if not self.is_listed or self.rows == 1:
            order[0] = -1
        return order

    def altered(self) -> Arguments:
        """The same sizes, other numbers; rows of whole numbers (places, classes) stay, for they may have to fit."""

        def alter(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point() or tensor.layout != torch.strided or not tensor.dim():
                return tensor
            return laid_out_like(tensor, 2 * tensor.flip(0))

        return map_tree(alter, self.all)

    def lengths(self) -> dict[str, int]:
        """Sizes that may be lengths: the second one of each input, or the third one of three (points, samples).

        Pictures, of four dimensions, are taken to be of one size.
        """
        if self.is_listed:
            return {}
        lengths = {
            f"{_LENGTHS[axis]} of {name}": tensor.shape[axis]
            for name, tensor in self._named()
            for axis in _axes_of_lengths(tensor.shape, self.rows)
        }
        unique = {size: name for name, size in reversed(lengths.items())}  # the first name of each size
        return {name: size for size, name in reversed(unique.items())}

    def shortened(self, length: int, to: int) -> Arguments:
        """The same rows, cut from `length` to `to` in the middle (their ends often have a meaning)."""
        kept = torch.cat([torch.arange((to + 1) // 2), torch.arange(length - to // 2, length)])

        def cut(tensor: Tensor) -> Tensor:
            if tensor.dim() == 1 and not tensor.is_floating_point() and tensor.numel() and tensor.max() == length:
                return tensor.clamp(max=to)  # the lengths of the examples
            shorter = tensor
            for axis in range(1, tensor.dim()):
                if tensor.shape[axis] == length:
                    shorter = shorter.index_select(axis, kept.to(tensor.device))
            return laid_out_like(tensor, shorter)

        return map_tree(cut, self.all)

    def measured(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, int | None]:
        """Rows and lengths of other arguments of the same kind."""
        other = batch_of(args, kwargs)
        sizes: dict[str, int | None] = {ROWS: other.rows}
        tensors = dict(other._named())
        for name in self.lengths():
            kind, _, argument = name.partition(" of ")
            tensor, axis = tensors.get(argument), 1 + _LENGTHS[1:].index(kind)
            sizes[name] = tensor.shape[axis] if tensor is not None and tensor.dim() > axis else None
        return sizes

    def how_to_unpack(self) -> str:
        """How to pass a batch that was passed in one piece, as a data loader gives it; empty for all else."""
        whole = self.args[0] if len(self.args) == 1 and not self.kwargs else None
        if isinstance(whole, dict):
            return "\nIf the model takes the entries as arguments of these names, pass them so: split(model, **batch)."
        if isinstance(whole, (list, tuple)):
            return "\nIf the model takes the items one after the other, pass them so: split(model, *batch)."
        return ""

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor by its argument's name and place."""
        for name, value in [*((str(i), arg) for i, arg in enumerate(self.args)), *self.kwargs.items()]:
            for position, tensor in enumerate(tensors_of(value)):
                yield (name if position == 0 else f"{name}.{position}"), tensor


def _axes_of_lengths(shape: Sequence[int], rows: int) -> list[int]:
    """The axes of (rows, length), (rows, length, points) or (rows, length, and a picture) that may be lengths."""
    if len(shape) not in (2, 3, 5) or shape[0] != rows:
        return []
    return [axis for axis in range(1, 3 if len(shape) == 3 else 2) if shape[axis] > 3]


def batch_of(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Batch:
    """The arguments with their number of examples: the first size of the first tensor, or the length of a list.

    A list counts as a batch when its tensors are pictures: three dimensions, one or three channels first.
    """
    for value in [*args, *kwargs.values()]:
        tensors = tensors_of(value)
        if isinstance(value, (list, tuple)) and _are_pictures(tensors):
            return Batch(args, kwargs, len(value), True)
        for tensor in tensors:
            if tensor.is_nested:
                raise SplitError("The example holds a nested tensor, which has no rows. Pad it, and pass a mask.")
            if tensor.dim():
                return Batch(args, kwargs, tensor.shape[0], False)
    return Batch(args, kwargs, 0, False)


def _map_lists(arguments: Arguments, rows: int, mate: int) -> Arguments:
    """Each list of examples in the order of `Batch.order`."""
    args, kwargs = arguments

    def turn(value: object) -> object:
        if isinstance(value, (list, tuple)) and len(value) == rows:
            return type(value)([value[mate % rows], *reversed(value)])
        return value

    return tuple(turn(arg) for arg in args), {name: turn(value) for name, value in kwargs.items()}


def laid_out_like(example: Tensor, tensor: Tensor) -> Tensor:
    """The tensor in the memory order of the example, which may be channels-last: kernels round by it."""
    if tensor.layout != torch.strided or 0 in example.stride():
        return tensor
    strides = dense_strides(tuple(tensor.shape), example.stride())
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


def dense_strides(shape: tuple[int, ...], like: tuple[int, ...], *, keep_zeros: bool = False) -> tuple[int, ...]:
    """Strides without gaps for a shape whose dimensions lie in memory in the order of other strides.

    keep_zeros  a dimension whose stride is zero (expanded) takes no memory; else it does
    """
    order = sorted(range(len(like)), key=lambda axis: (-like[axis], axis))
    strides, step = [0] * len(like), 1
    for axis in reversed(order):
        is_expanded = keep_zeros and not like[axis]
        strides[axis] = 0 if is_expanded else step
        step *= 1 if is_expanded else max(1, shape[axis])
    return tuple(strides)


def _are_pictures(tensors: Sequence[Tensor]) -> bool:
    return bool(tensors) and all(tensor.dim() == 3 and tensor.shape[0] in (1, 3) for tensor in tensors)
