"""Mapped files, and arrays whose place in a file is known and whose values are read when they are asked for."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regraft.containers.spans import Span, checked_size, decode
from regraft.errors import CheckpointError


def mapped(path: Path) -> mmap.mmap | bytes:
    """The file mapped into memory: only the pages that are looked at are read from the disk.

    Raises CheckpointError when the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            is_empty = path.stat().st_size == 0  # an empty file cannot be mapped
            return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


@dataclass(frozen=True, slots=True)
class Located:
    """An array that lies in one run of bytes, in C order, little-endian.

    dtype  as stored, in NumPy's words, bfloat16 and float8 included
    span   where it lies: exactly as many bytes as shape and dtype ask
    """

    shape: tuple[int, ...]
    dtype: str
    span: Span

    def read(self) -> np.ndarray:
        """The values; bfloat16 and float8 widened to float32. Raises CheckpointError when the file became shorter."""
        return decode(self.span.read(), self.dtype, self.shape)


def located(path: Path, name: str, offset: int, shape: Sequence[int], dtype: str) -> Located:
    """The array that begins at `offset`. Raises CheckpointError for an impossible shape or dtype."""
    return Located(tuple(shape), dtype, Span(path, offset, checked_size(shape, dtype, path=path, name=name)))
