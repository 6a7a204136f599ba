"""Arrays that lie in a file: where their bytes are, in one run or in slices, and how the bytes become values.

Nothing is allocated before the file's real size has been compared with what a header claims.
"""

import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from regraft.arrays import ITEM_BYTES, widen_bfloat16
from regraft.containers.small_floats import SMALL_FLOATS, widened_values
from regraft.errors import CheckpointError

Order = Literal["<", ">"]
Extents = tuple[tuple[int, int], ...]  # for each axis (start, length)

_AS_INTEGERS = {"bfloat16": "uint16", "int4": "int8", "uint4": "uint8", **dict.fromkeys(SMALL_FLOATS, "uint8")}


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes of the file `path`, from `offset` on."""

    path: Path
    offset: int
    size: int

    def is_inside(self, size: int) -> bool:
        """Whether it lies in a file of so many bytes."""
        return 0 <= self.offset <= self.offset + self.size <= size

    def read(self) -> bytearray:
        """The bytes, writable so that an array over them is too. Raises CheckpointError when the file is shorter."""
        try:
            with FileIO(self.path) as file:
                available = os.fstat(file.fileno()).st_size
                if self.offset < 0 or self.size < 0 or self.offset + self.size > available:
                    raise CheckpointError(
                        f"{self.path}: expected {self.size} bytes at offset {self.offset}, the file has {available}.\n"
                        "It is truncated or damaged: download it again."
                    )
                file.seek(self.offset)
                content = bytearray(self.size)
                _fill(file, content)
        except OSError as error:
            raise unreadable(self.path, error) from error
        return content


def whole_file(path: Path) -> Span:
    """All bytes of a file. Raises CheckpointError when there is no such file."""
    try:
        return Span(path, 0, path.stat().st_size)
    except OSError as error:
        raise unreadable(path, error) from error


def is_file_name(name: str) -> bool:
    """Whether a name leads to a file of the same folder, on every system, and nowhere else."""
    return Path(name).name == name and not {"\\", "\0"} & set(name) and name not in ("", ".", "..")


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The error for a file that the operating system refuses to read."""
    return CheckpointError(f"{path} cannot be read: {error.strerror or error}.")


def _fill(file: FileIO, content: bytearray) -> None:
    """Read until `content` is full: one unbuffered read gives at most 2 GiB on Linux."""
    view = memoryview(content)
    while view:
        count = file.readinto(view)
        if not count:
            raise CheckpointError(f"{file.name!s} became shorter while it was read.")
        view = view[count:]


def mapped(path: Path) -> mmap.mmap | bytes:
    """The file mapped into memory: only the pages that are accessed are read from the disk.

    Raises CheckpointError when the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            is_empty = path.stat().st_size == 0  # an empty file cannot be mapped
            return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise unreadable(path, error) from error


@dataclass(frozen=True, slots=True)
class Located:
    """An array that lies in one run of bytes, in C order, little-endian.

    dtype  as stored, in NumPy's terms, bfloat16 and float8 included
    span   where it lies: exactly as many bytes as shape and dtype need
    """

    shape: tuple[int, ...]
    dtype: str
    span: Span

    def read(self) -> np.ndarray:
        """The values; bfloat16 and float8 widened to float32. Raises CheckpointError when the file became shorter."""
        return decoded_array(self.span.read(), self.dtype, self.shape)


def located(path: Path, name: str, offset: int, shape: Sequence[int], dtype: str) -> Located:
    """The array that begins at `offset`. Raises CheckpointError for an impossible shape or dtype."""
    return Located(tuple(shape), dtype, Span(path, offset, checked_size(shape, dtype, path=path, name=name)))


def checked_size(shape: Sequence[int], dtype: str, *, path: Path, name: str) -> int:
    """Bytes that an array of this shape and dtype has. Raises CheckpointError for an impossible shape or dtype."""
    if dtype not in ITEM_BYTES:
        raise CheckpointError(f"{path}: {name} has the dtype {dtype!r}, which is none of {', '.join(ITEM_BYTES)}.")
    # NumPy refuses more elements than it can count, even of an array that one size of 0 makes empty.
    if min(shape, default=0) < 0 or len(shape) > 32 or prod(filter(None, shape)) >= 1 << 59:
        raise CheckpointError(f"{path}: {name} has the impossible shape {tuple(shape)}. The file is damaged.")
    return prod(shape) * ITEM_BYTES[dtype]


def checked_bytes(content: bytes | bytearray | memoryview, dtype: str, shape: Sequence[int]) -> bytearray:
    """The content, writable. Raises CheckpointError (without a file's name) unless it has the array's size."""
    expected = prod(shape) * ITEM_BYTES.get(dtype, 0)
    if len(content) != expected or any(size < 0 for size in shape):
        raise CheckpointError(
            f"an array of {dtype} and shape {tuple(shape)} has {len(content)} bytes, expected {expected}"
        )
    return bytearray(content)


def decoded_array(
    content: bytearray | bytes | memoryview, dtype: str, shape: Sequence[int], *, order: Order = "<"
) -> np.ndarray:
    """The array in NumPy's native byte order; bfloat16, float8 and float4 widened to float32 (exactly).

    content  the array's bytes, row by row; exactly as many as shape and dtype need
    order    "<" little endian or ">" big endian, as stored
    """
    stored = np.dtype(_AS_INTEGERS.get(dtype, dtype)).newbyteorder(order)
    flat = np.frombuffer(content, stored)
    if not stored.isnative:
        flat = flat.astype(stored.newbyteorder("="))
    if dtype == "bool":
        flat = (flat.view(np.uint8) != 0) if flat.size else flat  # a byte 2 is no valid NumPy bool
    elif dtype == "bfloat16":
        flat = widen_bfloat16(flat)
    elif dtype in SMALL_FLOATS:
        values = widened_values(dtype)
        flat = values[flat & (len(values) - 1)]
    return flat.reshape(tuple(shape))


def full_extents(extents: Extents, shape: Sequence[int]) -> Extents | None:
    """The extents with absent lengths (-1: the whole axis) filled in; None when the slice is not inside the shape."""
    if len(extents) != len(shape):
        return None
    axes = zip(extents, shape, strict=True)
    full = tuple((start, size if length < 0 else length) for (start, length), size in axes)
    is_inside = all(0 <= start <= start + length <= size for (start, length), size in zip(full, shape, strict=True))
    return full if is_inside else None


def joined(shape: Sequence[int], dtype: str, slices: Iterable[tuple[Extents, np.ndarray]]) -> np.ndarray:
    """The whole array. Raises CheckpointError (without a file's name) when slices leave a gap or do not fit.

    slices  (extents, values) of each slice; the extents as `full_extents` gives them
    """
    values = np.empty(tuple(shape), decoded_array(b"", dtype, (0,)).dtype)
    filled = np.zeros(tuple(shape), bool)
    for extents, part in slices:
        index = tuple(slice(start, start + length) for start, length in extents)
        if values[index].shape != part.shape:
            raise CheckpointError(f"a slice of shape {part.shape} does not fit its place, {values[index].shape}")
        values[index] = part
        filled[index] = True
    if not filled.all():
        raise CheckpointError("its slices overlap and leave gaps")
    return values
