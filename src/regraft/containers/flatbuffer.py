"""FlatBuffers without a schema: tables, their fields, texts and vectors, read where they lie.

Every offset is compared with the buffer's size before it is followed, and offsets only lead forward, so that no chain
of tables can be a circle. Tables may be shared, so the number of visits is limited.
Source: "FlatBuffer Internals", FlatBuffers documentation.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from struct import error as StructError
from struct import unpack_from
from typing import Any

import numpy as np

from regraft.errors import CheckpointError

_FREE_VISITS = 10_000


class FlatBuffer:
    """The bytes of one FlatBuffer, and how many tables may still be visited in it."""

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self.content, self.size = content, len(content)
        # A table takes 12 bytes and is visited a few times; tables that many others share come to more.
        self.visits_left = self.size // 2 + _FREE_VISITS

    def table(self, position: int) -> "FlatTable":
        """The table that the offset at this position leads to."""
        self.visits_left -= 1
        if self.visits_left < 0:
            raise CheckpointError("its tables are shared too often")
        start = position + self.number("<I", position)
        if start + 4 > self.size:
            raise CheckpointError(f"a table at {start} lies beyond the end of the file")
        return FlatTable(self, start)

    def number(self, code: str, position: int) -> Any:
        """The number at a position, in struct's code."""
        if position < 0:
            raise CheckpointError("an offset leads before the beginning of the file")
        try:
            return unpack_from(code, self.content, position)[0]
        except StructError as error:
            raise CheckpointError(f"an offset leads to byte {position}, the file has {self.size}") from error


@dataclass(frozen=True, slots=True)
class FlatTable:
    """One table. Fields are numbered in the order of the schema, from 0; a field that is absent has its default.

    Every method raises CheckpointError (without a file's name) when an offset leads outside of the buffer.
    """

    buffer: FlatBuffer
    start: int

    def number(self, field: int, code: str, default: float = 0) -> Any:
        """The scalar of the field, in struct's code."""
        position = self._position(field)
        return self.buffer.number(f"<{code}", position) if position else default

    def text(self, field: int) -> str:
        """The field's text; "" when it is absent."""
        start, size = self.content(field, 1)
        return bytes(self.buffer.content[start : start + size]).decode("utf-8", "backslashreplace")

    def numbers(self, field: int, dtype: str) -> np.ndarray:
        """The field's vector of numbers; of length 0 when it is absent."""
        item = np.dtype(dtype)
        start, size = self.content(field, item.itemsize)
        return np.frombuffer(bytes(self.buffer.content[start : start + size]), item)

    def content(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(position in the buffer, bytes) of the field's vector; (0, 0) when it is absent."""
        position = self._position(field)
        if not position:
            return 0, 0
        start = position + self.buffer.number("<I", position)
        size = self.buffer.number("<I", start) * item_bytes
        if start + 4 + size > self.buffer.size:
            raise CheckpointError(f"a vector of {size} bytes at {start} reaches beyond the end of the file")
        return start + 4, size

    def table(self, field: int) -> "FlatTable | None":
        """The field's table; None when it is absent."""
        position = self._position(field)
        return self.buffer.table(position) if position else None

    def tables(self, field: int) -> Sequence["FlatTable"]:
        """The field's vector of tables; empty when it is absent."""
        start, size = self.content(field, 4)
        return [self.buffer.table(position) for position in range(start, start + size, 4)]

    def _position(self, field: int) -> int:
        """Where the field's own bytes lie; 0 when it is absent."""
        # The table begins with the distance back to its list of fields.
        fields = self.start - self.buffer.number("<i", self.start)
        if self.buffer.number("<H", fields) < 6 + 2 * field:
            return 0
        offset = self.buffer.number("<H", fields + 4 + 2 * field)
        return self.start + offset if offset else 0


def root_table(content: bytes | mmap.mmap) -> FlatTable:
    """The table that the first offset of a FlatBuffer leads to."""
    return FlatBuffer(content).table(0)
