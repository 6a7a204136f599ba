"""Rows of different lengths in one tensor: the shorter ones are filled up at their ends."""

from collections.abc import Sequence

from torch import Tensor, cat

CHANNELS = 4  # of an image at most: red, green, blue, alpha
Shapes = tuple[tuple[int, ...], ...]  # of the tensors of one example's input, in order


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


def is_sequence(tensors: Sequence[Tensor], usual: Shapes, *, is_usual: bool) -> bool:
    """Whether an example of another size is a sequence of another length, which may be filled up with zeros.

    An image (three dimensions or more) of another height, width or number of channels is not. Neither are numbers alone
    where nearly all examples have one size: a row that lost its end.

    usual     the sizes that occur most often
    is_usual  whether nearly all examples have them
    """
    others = [(tensor, size) for tensor, size in zip(tensors, usual, strict=False) if tuple(tensor.shape) != size]
    if len(tensors) != len(usual) or any(_is_other_image(tuple(tensor.shape), size) for tensor, size in others):
        return False
    return not is_usual or not all(tensor.is_floating_point() for tensor, _ in others)


def _is_other_image(shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
    if len(shape) != len(usual):
        return True
    is_length_alone = shape[1:] == usual[1:] and (len(shape) != 3 or max(shape[0], usual[0]) > CHANNELS)
    return len(shape) >= 3 and not is_length_alone
