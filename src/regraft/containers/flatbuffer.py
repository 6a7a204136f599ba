"""FlatBuffers without a schema: tables, their fields, texts and vectors, read where they lie.

Every offset is compared with the buffer's size before it is followed, and offsets only lead forward, so that no chain
of tables can be a circle.
Source: "FlatBuffer Internals", FlatBuffers documentation.
"""

from dataclasses import dataclass
from struct import error as StructError
from struct import unpack_from
from typing import Any

import numpy as np

from regraft.errors import CheckpointError

Buffer = Any  # bytes or mmap: what struct and NumPy can read


@dataclass(frozen=True, slots=True)
class FlatTable:
    """One table. Fields are numbered in the order of the schema, from 0; a field that is absent has its default.

    Every method raises CheckpointError (without a file's name) when an offset leads outside of the buffer.
    """

    buffer: Buffer
    at: int

    def number(self, field: int, code: str, default: float = 0) -> Any:
        """The scalar of the field, in struct's code."""
        place = self._place(field)
        return _number(self.buffer, f"<{code}", place) if place else default

    def text(self, field: int) -> str:
        """The field's text; "" when it is absent."""
        start, size = self.content(field, 1)
        return bytes(self.buffer[start : start + size]).decode("utf-8", "backslashreplace")

    def numbers(self, field: int, dtype: str) -> np.ndarray:
        """The field's vector of numbers; of length 0 when it is absent."""
        item = np.dtype(dtype)
        start, size = self.content(field, item.itemsize)
        return np.frombuffer(bytes(self.buffer[start : start + size]), item)

    def content(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(position in the buffer, bytes) of the field's vector; (0, 0) when it is absent."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = place + _number(self.buffer, "<I", place)
        size = _number(self.buffer, "<I", start) * item_bytes
        if start + 4 + size > len(self.buffer):
            raise CheckpointError(f"a vector of {size} bytes at {start} reaches beyond the end of the file")
        return start + 4, size

    def table(self, field: int) -> "FlatTable | None":
        """The field's table; None when it is absent."""
        place = self._place(field)
        return _table(self.buffer, place) if place else None

    def tables(self, field: int) -> list["FlatTable"]:
        """The field's vector of tables; empty when it is absent."""
        start, size = self.content(field, 4)
        return [_table(self.buffer, place) for place in range(start, start + size, 4)]

    def _place(self, field: int) -> int:
        """Where the field's own bytes lie; 0 when it is absent."""
        # The table begins with the distance back to its list of fields.
        fields = self.at - _number(self.buffer, "<i", self.at)
        if _number(self.buffer, "<H", fields) < 6 + 2 * field:
            return 0
        offset = _number(self.buffer, "<H", fields + 4 + 2 * field)
        return self.at + offset if offset else 0


def root_table(buffer: Buffer) -> FlatTable:
    """The table that the buffer's first offset leads to."""
    return _table(buffer, 0)


def _table(buffer: Buffer, place: int) -> FlatTable:
    at = place + _number(buffer, "<I", place)
    if at + 4 > len(buffer):
        raise CheckpointError(f"a table at {at} lies beyond the end of the file")
    return FlatTable(buffer, at)


def _number(buffer: Buffer, code: str, place: int) -> Any:
    if place < 0:
        raise CheckpointError("an offset leads before the beginning of the file")
    try:
        return unpack_from(code, buffer, place)[0]
    except StructError as error:
        raise CheckpointError(f"an offset leads to byte {place}, the file has {len(buffer)}") from error
