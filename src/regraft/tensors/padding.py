"""Rows of different lengths in one tensor: the shorter ones are filled up at their ends."""

from collections.abc import Sequence

from torch import Tensor, cat


def longest(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """The largest size of each dimension."""
    return tuple(max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True))


def padded_to(tensor: Tensor, shape: Sequence[int], value: float = 0) -> Tensor:
    """The tensor with a value at the ends of its dimensions, up to `shape`; itself when nothing is missing."""
    if tuple(tensor.shape) == tuple(shape):
        return tensor
    out = tensor.new_full(tuple(shape), value)
    out[tuple(slice(size) for size in tensor.shape)] = tensor
    return out


def padded_cat(tensors: Sequence[Tensor], value: float = 0) -> Tensor:
    """Batches one after the other, each row padded to the longest with the value."""
    sizes = longest([tensor[:1] for tensor in tensors])[1:]
    return cat([padded_to(tensor, (len(tensor), *sizes), value) for tensor in tensors])
