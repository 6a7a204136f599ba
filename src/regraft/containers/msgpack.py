"""Msgpack trees of arrays, as Flax and the first Orbax write them; values are skipped over, not unpacked."""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from regraft.containers.spans import Located, located
from regraft.errors import CheckpointError

# Source of the extension codes and of chunking: google/flax, flax/serialization.py.
ARRAY, COMPLEX, SCALAR = 1, 2, 3
CHUNKED = "__msgpack_chunked_array__"
DEPTH = 64  # modules nest a dozen deep; more is an attack on the stack
NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
LENGTHS = {  # a lead byte → (kind, the form of its length)
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"),
    0xC7: ("extension", ">B"), 0xC8: ("extension", ">H"), 0xC9: ("extension", ">I"),
    0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I"),
    0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip

# Lead bytes that say all: (kind, length), or ("number", the number itself).
SHORT: dict[int, tuple[str, Any]] = {
    **{lead: ("number", lead) for lead in range(0x80)},
    **{lead: ("map", lead & 15) for lead in range(0x80, 0x90)},
    **{lead: ("list", lead & 15) for lead in range(0x90, 0xA0)},
    **{lead: ("text", lead & 31) for lead in range(0xA0, 0xC0)},
    0xC0: ("number", None), 0xC2: ("number", False), 0xC3: ("number", True),
    **{0xD4 + power: ("extension", 1 << power) for power in range(5)},
    **{lead: ("number", lead - 256) for lead in range(0xE0, 0x100)},
}  # fmt: skip


@dataclass(frozen=True)
class Chunked:
    """An array in pieces of one dimension each: Flax splits what is larger than 2^30 bytes."""

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[Located, ...]

    def read(self) -> np.ndarray:
        """The pieces put together."""
        return np.concatenate([chunk.read().reshape(-1) for chunk in self.chunks]).reshape(self.shape)


@dataclass(frozen=True)
class Number:
    """A plain number of the file, as an array without axes."""

    value: complex
    dtype: str
    shape: tuple[int, ...] = ()

    def read(self) -> np.ndarray:
        """The number."""
        return np.array(self.value, self.dtype)


class Unpacker:
    """Walks through msgpack bytes: maps, lists and numbers become Python's, arrays become Located ones.

    Source: msgpack/msgpack, spec.md. Raises CheckpointError for bytes that are none, or that Flax never writes.
    """

    def __init__(self, path: Path, data: mmap.mmap | bytes, start: int = 0, stop: int | None = None) -> None:
        self.path, self.data, self.position = path, data, start
        self.stop = len(data) if stop is None else stop

    def value(self, depth: int = 0) -> Any:
        """The next value."""
        if depth > DEPTH:
            raise self.damaged(f"it nests deeper than {DEPTH} levels at byte {self.position}")
        lead = self.data[self._skip(1)]
        kind, length = self._kind(lead)
        if kind == "number":
            return length
        if kind == "map":
            return self._map(length, depth)
        if kind == "list":
            return [self.value(depth + 1) for _ in range(length)]
        if kind == "extension":
            code = self.data[self._skip(1)]
            return self._extension(code, self._skip(length), depth)
        start = self._skip(length)
        if kind == "text":
            return self.data[start : self.position].decode("utf-8", errors="replace")
        return located(self.path, "a run of bytes", start, (length,), "uint8")

    def _kind(self, lead: int) -> tuple[str, Any]:
        """(kind, length), or ("number", the number itself)."""
        if lead in SHORT:
            return SHORT[lead]
        if lead in NUMBERS:
            return "number", self._number(NUMBERS[lead])
        if lead in LENGTHS:
            kind, form = LENGTHS[lead]
            return kind, self._number(form)
        raise self.damaged(f"the byte {lead:#x} at {self.position - 1} begins no value")

    def _map(self, length: int, depth: int) -> dict[str, Any] | Chunked:
        """A map, whose keys must be texts or whole numbers (which become texts) and differ."""
        entries: dict[str, Any] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int)) or str(key) in entries:
                raise self.damaged(f"the key {key!r:.100} before byte {self.position} is no text, or comes twice")
            entries[str(key)] = self.value(depth + 1)
        return self._chunked(entries) if entries.get(CHUNKED) is True else entries

    def _extension(self, code: int, start: int, depth: int) -> Any:
        """An array, a complex number or a NumPy scalar: each packed as msgpack once more."""
        inner = Unpacker(self.path, self.data, start, self.position)
        match code, inner.value(depth + 1):
            case ((1 | 3), [list(shape), str(dtype), Located() as raw]) if all(type(size) is int for size in shape):
                array = located(self.path, "an array", raw.span.offset, shape, dtype)
                if array.span.size != raw.span.size:
                    raise self.damaged(f"{array.shape} of {dtype} is {array.span.size} bytes, held are {raw.span.size}")
                return array
            case 2, [int() | float() as real, int() | float() as imaginary]:
                return Number(complex(real, imaginary), "complex128")
        raise self.damaged(f"the extension {code} at byte {start} is none of Flax's")

    def _chunked(self, tree: dict[str, Any]) -> Chunked:
        """The array that was split when it was written."""
        shape, parts = (self._in_order(tree.get(key)) for key in ("shape", "chunks"))
        chunks = tuple(part for part in parts if isinstance(part, Located))
        is_whole = 0 < len(chunks) == len(parts) and all(type(size) is int for size in shape)
        is_alike = len({chunk.dtype for chunk in chunks}) == 1
        if not is_whole or not is_alike or prod(shape) != sum(prod(chunk.shape) for chunk in chunks):
            raise self._split_wrongly()
        return Chunked(shape, chunks[0].dtype, chunks)

    def _in_order(self, parts: object) -> tuple[Any, ...]:
        """The values of a map whose keys are "0", "1", …"""
        if not isinstance(parts, dict) or not all(key.isdecimal() and len(key) < 10 for key in parts):
            raise self._split_wrongly()
        return tuple(parts[key] for key in sorted(parts, key=int))

    def _split_wrongly(self) -> CheckpointError:
        return self.damaged(f"the pieces of a large array before byte {self.position} do not fit together")

    def _number(self, form: str) -> Any:
        return struct.unpack_from(form, self.data, self._skip(struct.calcsize(form)))[0]

    def _skip(self, count: int) -> int:
        """Go on by `count` bytes; the position before."""
        if count > self.stop - self.position:
            raise self.damaged(f"{count} bytes are claimed at byte {self.position}, {self.stop} is the end")
        self.position += count
        return self.position - count

    def damaged(self, what: str) -> CheckpointError:
        """The error for bytes that no Flax wrote."""
        return CheckpointError(f"{self.path}: {what}.\nThe file is damaged or cut short: download it again.")


def array_leaves(value: object, name: str) -> Iterator[tuple[str, Located | Chunked | Number]]:
    """(name, array) of every array and number of the tree; texts, booleans and nothing are no arrays."""
    match value:
        case dict() | list():
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from array_leaves(inner, f"{name}/{key}" if name else str(key))
        case Located() | Chunked() | Number():
            yield name, value
        case bool():
            return
        case int() | float():
            yield name, Number(value, "float64" if isinstance(value, float) else "int64")
