"""Slices of partitioned TensorFlow variables: where each lies in the whole, and the whole put together."""

from collections.abc import Iterable, Sequence

import numpy as np

from regraft.containers.spans import decode
from regraft.errors import CheckpointError

Extents = tuple[tuple[int, int], ...]  # for each axis (start, length)


def placed(extents: Extents, shape: Sequence[int]) -> Extents | None:
    """The same with absent lengths (−1: the whole axis) filled in; None when the slice does not lie in the shape."""
    if len(extents) != len(shape):
        return None
    whole = zip(extents, shape, strict=True)
    places = tuple((start, size if length < 0 else length) for (start, length), size in whole)
    is_inside = all(0 <= start <= start + length <= size for (start, length), size in zip(places, shape, strict=True))
    return places if is_inside else None


def joined(shape: Sequence[int], dtype: str, pieces: Iterable[tuple[Extents, np.ndarray]]) -> np.ndarray:
    """The whole array. Raises CheckpointError (without a file's name) when the slices leave a gap.

    pieces  (place, values) of each slice; the places as `placed` gives them
    """
    values = np.empty(tuple(shape), decode(b"", dtype, (0,)).dtype)
    filled = np.zeros(tuple(shape), bool)
    for extents, piece in pieces:
        at = tuple(slice(start, start + length) for start, length in extents)
        values[at] = piece
        filled[at] = True
    if not filled.all():
        raise CheckpointError("its slices overlap and leave gaps")
    return values
