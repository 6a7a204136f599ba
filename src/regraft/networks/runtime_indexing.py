"""Functions that torch lacks for indices, bounds and sizes that are computed as a network runs. Copied as `runtime`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def reshape_keeping(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A reshape in which a size of 0 keeps the size that the axis has."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def spread(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor broadcast together with a shape, whose sizes of 1 leave an axis as it is."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def slice_between(x: Tensor, starts: object, ends: object, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Slices along several axes between bounds that are computed: numbers, sequences of numbers, or tensors."""
    index = [slice(None)] * x.dim()
    for axis, start, end, step in zip(axes, numbers(starts), numbers(ends), steps, strict=True):
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def numbers(values: Any) -> list[int]:
    """The integers of a number, a sequence or a tensor."""
    if isinstance(values, Tensor):
        values = values.tolist()
    return [int(values)] if isinstance(values, int | float | bool) else [int(value) for value in values]


def take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """Elements along an axis: the index's axes take its place; a negative index counts from the end."""
    axis %= x.dim()
    size = x.shape[axis]
    flat = torch.where(index < 0, index + size, index).reshape(-1).long()
    return x.index_select(axis, flat).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def take_elements(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """An element along the axis for each place of the index; a negative index counts from the end."""
    return x.gather(axis, torch.where(index < 0, index + x.shape[axis], index).long())


def take_nd(x: Tensor, index: Tensor, batch: int = 0) -> Tensor:
    """The parts of x that the last axis of the index points to, after axes of a batch that both share."""
    index = index.long()
    before = [torch.arange(x.shape[axis], device=x.device) for axis in range(batch)]
    where = [place.reshape([-1] + [1] * (index.dim() - 2 - axis)) for axis, place in enumerate(before)]
    return x[(*where, *index.unbind(-1))]


def put_nd(x: Tensor, index: Tensor, values: Tensor, reduction: str = "none") -> Tensor:
    """A copy of x with values put, added or multiplied at the parts that the last axis of the index points to."""
    where = index.long().unbind(-1)
    if reduction in ("none", "add"):
        return x.index_put(where, values, accumulate=reduction == "add")
    operate = {"mul": torch.mul, "max": torch.maximum, "min": torch.minimum}[reduction]
    return x.index_put(where, operate(x[where], values))


def put_elements(x: Tensor, index: Tensor, values: Tensor, axis: int, reduction: str = "none") -> Tensor:
    """A copy of x with a value put, or reduced into, an element along the axis for each place of the index."""
    index = torch.where(index < 0, index + x.shape[axis], index).long()
    if reduction == "none":
        return x.scatter(axis, index, values)
    word = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return x.scatter_reduce(axis, index, values, word)


def one_hot_values(index: Tensor, depth: int, off: float, on: float, axis: int, dtype: torch.dtype) -> Tensor:
    """A new axis of `depth` elements that are `on` at the index and `off` elsewhere; outside of it all are `off`."""
    index = torch.where(index < 0, index + depth, index)
    places = torch.arange(depth, device=index.device)
    hot = (index.unsqueeze(-1) == places).to(dtype) * (on - off) + off
    return hot.movedim(-1, axis)


def pad_axes(x: Tensor, pads: Sequence[Sequence[int]], axes: Sequence[int], mode: str, value: float) -> Tensor:
    """Padding of some axes; a negative width cuts off."""
    widths = [[0, 0] for _ in range(x.dim())]
    for axis, pair in zip(axes, pads, strict=True):
        widths[axis] = list(pair)
    flat = [width for pair in reversed(widths) for width in pair]
    if mode == "constant":
        return torch.nn.functional.pad(x, flat, value=value)
    for axis, (before, after) in enumerate(widths):
        index = torch.arange(-before, x.shape[axis] + after, device=x.device)
        last = x.shape[axis] - 1
        index = index.clamp(0, last) if mode == "edge" else last - (last - index.abs()).abs()
        x = x.index_select(axis, index) if before or after else x
    return x


def pad_sizes(x: Tensor, widths: object, value: float, by_axis: bool) -> Tensor:
    """Padding by widths that are computed: before and after for each axis, or all before and then all after."""
    flat = widths.flatten().tolist() if isinstance(widths, Tensor) else numbers(widths)
    rank = x.dim()
    pairs = [flat[2 * axis : 2 * axis + 2] if by_axis else [flat[axis], flat[axis + rank]] for axis in range(rank)]
    return torch.nn.functional.pad(x, [width for pair in reversed(pairs) for width in pair], value=value)


def select_rows(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, else y; a condition of fewer axes is of the first ones."""
    return torch.where(condition.reshape(condition.shape + (1,) * (x.dim() - condition.dim())), x, y)


def slice_sizes(x: Tensor, begins: object, sizes: object) -> Tensor:
    """Slices of every axis from a begin on, of a size; -1 is the rest."""
    pairs = zip(numbers(begins), numbers(sizes), strict=True)
    return x[tuple(slice(begin, None if size < 0 else begin + size) for begin, size in pairs)]


def slice_masked(
    x: Tensor, begins: object, ends: object, steps: Sequence[int], begin_mask: int, end_mask: int, shrink_mask: int
) -> Tensor:
    """Slices of the first axes; a bit of a mask leaves a bound out, or takes one place, whose axis goes."""
    index = []
    for place, (begin, end, step) in enumerate(zip(numbers(begins), numbers(ends), steps, strict=True)):
        first, last = (None if mask >> place & 1 else bound for mask, bound in ((begin_mask, begin), (end_mask, end)))
        index.append(begin if shrink_mask >> place & 1 else slice(first, last, step))
    return x[tuple(index)]


def space_to_batch(x: Tensor, block: Sequence[int], sides: Sequence[Sequence[int]]) -> Tensor:
    """(n, h, w, c) → (bh · bw · n, h / bh, w / bw, c), after zeros around the map: TensorFlow's SpaceToBatchND."""
    rank = len(block)
    widths = [0, 0] * (x.dim() - 1 - rank) + [width for pair in reversed(sides) for width in pair]
    x = torch.nn.functional.pad(x, widths)
    sizes = [part for size, step in zip(x.shape[1 : 1 + rank], block, strict=True) for part in (size // step, step)]
    x = x.reshape([x.shape[0], *sizes, *x.shape[1 + rank :]])
    steps, places = range(2, 2 + 2 * rank, 2), range(1, 1 + 2 * rank, 2)
    x = x.permute([*steps, 0, *places, *range(1 + 2 * rank, x.dim())])
    return x.flatten(0, rank)


def batch_to_space(x: Tensor, block: Sequence[int], sides: Sequence[Sequence[int]]) -> Tensor:
    """(bh · bw · n, h, w, c) → (n, h · bh, w · bw, c), cut off at the sides: TensorFlow's BatchToSpaceND."""
    rank, count = len(block), 1
    for step in block:
        count *= step
    x = x.reshape([*block, x.shape[0] // count, *x.shape[1:]])
    pairs = [axis for place in range(rank) for axis in (rank + 1 + place, place)]
    x = x.permute([rank, *pairs, *range(2 * rank + 1, x.dim())])
    sizes = [x.shape[1 + 2 * place] * x.shape[2 + 2 * place] for place in range(rank)]
    x = x.reshape([x.shape[0], *sizes, *x.shape[1 + 2 * rank :]])
    cuts = [slice(low, size - high) for (low, high), size in zip(sides, sizes, strict=True)]
    return x[(slice(None), *cuts)]
