"""Protocol buffers without a schema: the fields of a message, and files of which only the accessed parts are read.

A field that is absent is zero: writers leave zeros out. Unknown fields are passed over, as the format asks.
Source: "Encoding", Protocol Buffers documentation (wire types 0, 1, 2 and 5; groups are refused).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError

Value = int | memoryview  # wire types 0, 1 and 5 are integers, 2 is bytes
Fields = dict[int, list[Value]]  # field number → its values in the order of the message
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # the wire types
Converted = TypeVar("Converted")


def fields(message: bytes | bytearray | memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) in the order of the message.

    Raises CheckpointError (without a file's name) when the message is damaged.
    """
    view = memoryview(message)
    position, end = 0, len(view)
    while position < end:
        key = view[position]
        position += 1
        if key >= 128:
            key, position = _varint_tail(view, position, key)
        kind = key & 7
        if kind == 0 or kind == 2:
            if position >= end:
                raise CheckpointError("a message ends in the middle of a field")
            size = view[position]
            position += 1
            if size >= 128:
                size, position = _varint_tail(view, position, size)
            value: Value = size
            if kind == 2:
                value = view[position : position + size]
                position += size
        elif kind == 1 or kind == 5:
            start, position = position, position + (8 if kind == 1 else 4)
            value = int.from_bytes(view[start:position], "little")
        else:
            raise CheckpointError(f"a message has a field of the unknown kind {kind}")
        if position > end:
            raise CheckpointError("a message ends in the middle of a field")
        yield key >> 3, value


def _varint_tail(view: memoryview, position: int, first: int) -> tuple[int, int]:
    """(value, position after it) of a variable-length integer whose first byte has been read."""
    value, shift = first & 127, 7
    while shift < 70:
        if position >= len(view):
            raise CheckpointError("a message ends in the middle of a number")
        byte = view[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise CheckpointError("a message has a number of more than 64 bits")


def grouped(message: bytes | bytearray | memoryview) -> Fields:
    """Field number → its values in the order of the message; a number that is absent gives []."""
    values: Fields = defaultdict(list)
    for number, value in fields(message):
        values[number].append(value)
    return values


def last_int(values: list[Value]) -> int:
    """The last of the values as a number (in protobuf the last one counts); 0 when there is none."""
    return field_int(values[-1]) if values else 0


def last_bytes(values: list[Value]) -> memoryview:
    """The last of the values as bytes; empty when there is none."""
    return field_bytes(values[-1]) if values else memoryview(b"")


def read_varint(data: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """(value, position after it) of the variable-length integer at `position`."""
    if position >= len(data):
        raise CheckpointError("the data ends where a number is expected")
    view = memoryview(data)
    first = view[position]
    return (first, position + 1) if first < 128 else _varint_tail(view, position + 1, first)


def signed(value: Value) -> int:
    """A 64-bit field as a signed number (−1 is stored as 2⁶⁴ − 1)."""
    number = field_int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def field_int(value: Value) -> int:
    """The field as a number; CheckpointError when it holds bytes."""
    if isinstance(value, int):
        return value
    raise CheckpointError("a message holds bytes where a number is expected")


def field_bytes(value: Value) -> memoryview:
    """The field as bytes; CheckpointError when it holds a number."""
    if isinstance(value, memoryview):
        return value
    raise CheckpointError("a message holds a number where bytes are expected")


def field_text(value: Value) -> str:
    """The field as text; bytes that are no UTF-8 are kept readable rather than refused."""
    return bytes(field_bytes(value)).decode("utf-8", "backslashreplace")


class ProtobufFile:
    """The bytes of one file. Only the pages that are accessed are read from the disk.

    Raises CheckpointError that names the file, here and in every method, when the bytes are no message.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = memoryview(mapped(path))

    def message(self, content: Value) -> Fields:
        """All fields of a message: number → values. A number that is absent gives []."""
        try:
            return grouped(field_bytes(content))
        except CheckpointError as error:
            raise self.damaged(str(error)) from error

    def text(self, values: list[Value], default: str = "") -> str:
        """The last of the values as text (in protobuf the last one counts)."""
        return self._checked(field_text, values[-1]) if values else default

    def texts(self, values: list[Value]) -> list[str]:
        """All values as texts."""
        return [self._checked(field_text, value) for value in values]

    def integer(self, values: list[Value], default: int = 0) -> int:
        """The last of the values as int64."""
        return self._checked(signed, values[-1]) if values else default

    def integers(self, values: list[Value]) -> list[int]:
        """Repeated int64, packed or not."""
        return [number for value in values for number in self._checked(_varints, value)]

    def floats(self, values: list[Value]) -> list[float]:
        """Repeated float32, packed or not, each as its shortest decimal: 0.001, not 0.0010000000474974513."""
        parts = [value.to_bytes(8, "little")[:4] if isinstance(value, int) else bytes(value) for value in values]
        raw = b"".join(parts)
        if len(raw) % 4:
            raise self.damaged(f"{len(raw)} bytes of float32 numbers")
        return [float(str(number)) for number in np.frombuffer(raw, "<f4")]

    def span(self, part: Value) -> Span:
        """Where a part of the file lies, so that it can be read later without the mapping."""
        content = field_bytes(part)
        if not len(content):
            return Span(self.path, 0, 0)
        start = np.frombuffer(content, np.uint8).ctypes.data - np.frombuffer(self.whole, np.uint8).ctypes.data
        return Span(self.path, start, len(content))

    def damaged(self, what: str) -> CheckpointError:
        """The error for bytes that are no message of the expected kind."""
        return CheckpointError(f"{self.path}: {what}.\nThe file is damaged or cut short: download it again.")

    def _checked(self, convert: Callable[[Value], Converted], value: Value) -> Converted:
        """`convert(value)`, whose error names the file."""
        try:
            return convert(value)
        except CheckpointError as error:
            raise self.damaged(str(error)) from error


def _varints(value: Value) -> list[int]:
    """The signed numbers of one field: a single one, or many packed."""
    if isinstance(value, int):
        return [signed(value)]
    numbers: list[int] = []
    position = 0
    while position < len(value):
        number, position = read_varint(value, position)
        numbers.append(signed(number))
    return numbers


def looks_like(head: bytes, allowed: dict[int, int]) -> list[tuple[int, bytes]]:
    """The top-level fields that begin in a file's first bytes, or [] when one of them is not allowed.

    allowed  field number → wire type
    returns  (number, the value's bytes as far as `head` holds them; a varint's own bytes)
    """
    head_fields: list[tuple[int, bytes]] = []
    position = 0
    try:
        while position < len(head):
            tag, position = read_varint(head, position)
            if allowed.get(tag >> 3) != tag & 7:
                return []
            start = position
            size, position = read_varint(head, position)
            stop = position if tag & 7 == VARINT else position + size
            head_fields.append((tag >> 3, head[start if tag & 7 == VARINT else position : stop]))
            position = stop
    except CheckpointError:
        pass  # the head ends inside a number
    return head_fields
