"""Bytes that lie in a file, and the arrays that they are: the ground under the readers that parse by themselves.

Nothing is allocated before the file's real size has been compared with what a header claims.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from regraft.arrays import ITEM_BYTES, widen_bfloat16
from regraft.containers.small_floats import SMALL_FLOATS, widened_values
from regraft.errors import CheckpointError

Order = Literal["<", ">"]

_AS_INTEGERS = {"bfloat16": "uint16", "int4": "int8", "uint4": "uint8", **dict.fromkeys(SMALL_FLOATS, "uint8")}


@dataclass(frozen=True, slots=True)
class Span:
    """`size` bytes of the file `path`, from `offset` on."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytearray:
        """The bytes, writable so that an array over them is too. Raises CheckpointError when the file is shorter."""
        try:
            with self.path.open("rb", buffering=0) as file:
                available = os.fstat(file.fileno()).st_size
                if self.offset < 0 or self.size < 0 or self.offset + self.size > available:
                    raise CheckpointError(
                        f"{self.path}: expected {self.size} bytes at offset {self.offset}, the file has {available}.\n"
                        "It is truncated or damaged: fetch it again."
                    )
                file.seek(self.offset)
                content = bytearray(self.size)
                _fill(file, content)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        return content


def _fill(file: object, content: bytearray) -> None:
    """Read until `content` is full: one unbuffered read gives at most 2 GiB on Linux."""
    view = memoryview(content)
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"{file.name} became shorter while it was read.")  # type: ignore[attr-defined]
        view = view[count:]


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The file's bytes, mapped and not read, for as long as the block runs."""
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise CheckpointError(f"{path} is empty.") from error
        with content:
            yield content


def checked_size(shape: Sequence[int], dtype: str, *, path: Path, name: str) -> int:
    """Bytes that an array of this shape and dtype has. Raises CheckpointError for an impossible shape or dtype."""
    if dtype not in ITEM_BYTES:
        raise CheckpointError(f"{path}: {name} has the dtype {dtype!r}, which is none of {', '.join(ITEM_BYTES)}.")
    # NumPy refuses more elements than it can count, even of an array that one size of 0 makes empty.
    if any(size < 0 for size in shape) or len(shape) > 32 or prod(size for size in shape if size) >= 1 << 59:
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


def decode(
    content: bytearray | bytes | memoryview, dtype: str, shape: Sequence[int], *, order: Order = "<"
) -> np.ndarray:
    """The array in NumPy's native byte order; bfloat16, float8 and float4 widened to float32 (exactly).

    content  the array's bytes, row by row; exactly as many as shape and dtype ask
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
