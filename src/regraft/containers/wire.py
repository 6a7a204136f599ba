"""Protocol buffers without a schema: the fields of a message as they lie in the bytes.

A field that is absent is zero: writers leave zeros out. Unknown fields are passed over, as the format asks.
Source: "Encoding", Protocol Buffers documentation (wire types 0, 1, 2 and 5; groups are refused).
"""

from collections.abc import Iterator

from regraft.errors import CheckpointError

Value = int | memoryview  # wire types 0, 1 and 5 are integers, 2 is bytes


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


def read_varint(data: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """(value, position after it) of the variable-length integer at `position`."""
    if position >= len(data):
        raise CheckpointError("the data ends where a number is expected")
    view = memoryview(data)
    first = view[position]
    return (first, position + 1) if first < 128 else _varint_tail(view, position + 1, first)


def signed(value: Value) -> int:
    """A 64-bit field as a signed number (−1 is stored as 2⁶⁴ − 1)."""
    number = as_int(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def as_int(value: Value) -> int:
    """The field as a number; CheckpointError when it holds bytes."""
    if isinstance(value, int):
        return value
    raise CheckpointError("a message holds bytes where a number is expected")


def as_bytes(value: Value) -> memoryview:
    """The field as bytes; CheckpointError when it holds a number."""
    if isinstance(value, memoryview):
        return value
    raise CheckpointError("a message holds a number where bytes are expected")


def as_text(value: Value) -> str:
    """The field as text; bytes that are no UTF-8 are kept readable rather than refused."""
    return bytes(as_bytes(value)).decode("utf-8", "backslashreplace")
