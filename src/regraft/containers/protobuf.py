"""A protobuf file mapped into memory: messages are walked where they lie, of tensors only the places are kept."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from regraft.containers import wire
from regraft.containers.located import mapped
from regraft.containers.spans import Span
from regraft.errors import CheckpointError

Fields = dict[int, list[wire.Value]]  # field number → its values in the order of the message
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # the wire types


class ProtobufFile:
    """The bytes of one file. Only the pages that are looked at are read from the disk.

    Raises CheckpointError that names the file, here and in every method, when the bytes are no message.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = memoryview(mapped(path))

    def message(self, content: wire.Value) -> Fields:
        """All fields of a message: number → values. A number that is absent gives []."""
        found: Fields = defaultdict(list)
        try:
            for number, value in wire.fields(wire.as_bytes(content)):
                found[number].append(value)
        except CheckpointError as error:
            raise self.damaged(str(error)) from error
        return found

    def text(self, values: list[wire.Value], default: str = "") -> str:
        """The last of the values as text (in protobuf the last one counts)."""
        return self._checked(wire.as_text, values[-1]) if values else default

    def texts(self, values: list[wire.Value]) -> list[str]:
        """All values as texts."""
        return [self._checked(wire.as_text, value) for value in values]

    def integer(self, values: list[wire.Value], default: int = 0) -> int:
        """The last of the values as int64."""
        return self._checked(wire.signed, values[-1]) if values else default

    def integers(self, values: list[wire.Value]) -> list[int]:
        """Repeated int64, packed or not."""
        numbers: list[int] = []
        for value in values:
            if isinstance(value, int):
                numbers.append(wire.signed(value))
                continue
            position = 0
            while position < len(value):
                number, position = self._checked(lambda at, value=value: wire.read_varint(value, at), position)
                numbers.append(wire.signed(number))
        return numbers

    def floats(self, values: list[wire.Value]) -> list[float]:
        """Repeated float32, packed or not, each as its shortest decimal: 0.001, not 0.0010000000474974513."""
        parts = [value.to_bytes(8, "little")[:4] if isinstance(value, int) else bytes(value) for value in values]
        raw = b"".join(parts)
        if len(raw) % 4:
            raise self.damaged(f"{len(raw)} bytes of float32 numbers")
        return [float(str(number)) for number in np.frombuffer(raw, "<f4")]

    def span(self, part: wire.Value) -> Span:
        """Where a part of the file lies, so that it can be read later without the mapping."""
        content = wire.as_bytes(part)
        if not len(content):
            return Span(self.path, 0, 0)
        start = np.frombuffer(content, np.uint8).ctypes.data - np.frombuffer(self.whole, np.uint8).ctypes.data
        return Span(self.path, start, len(content))

    def damaged(self, what: str) -> CheckpointError:
        """The error for bytes that are no message of the expected kind."""
        return CheckpointError(f"{self.path}: {what}.\nThe file is damaged or cut short: fetch it again.")

    def _checked(self, convert, value):  # type: ignore[no-untyped-def]
        """`convert(value)`, whose error names the file."""
        try:
            return convert(value)
        except CheckpointError as error:
            raise self.damaged(str(error)) from error


def looks_like(head: bytes, allowed: dict[int, int]) -> list[tuple[int, bytes]]:
    """The top-level fields that begin in a file's first bytes, or [] when one of them is not allowed.

    allowed  field number → wire type
    returns  (number, the value's bytes as far as `head` holds them; a varint's own bytes)
    """
    found: list[tuple[int, bytes]] = []
    position = 0
    try:
        while position < len(head):
            tag, position = wire.read_varint(head, position)
            if allowed.get(tag >> 3) != tag & 7:
                return []
            start = position
            size, position = wire.read_varint(head, position)
            stop = position if tag & 7 == VARINT else position + size
            found.append((tag >> 3, head[start if tag & 7 == VARINT else position : stop]))
            position = stop
    except CheckpointError:
        pass  # the head ends inside a number
    return found
