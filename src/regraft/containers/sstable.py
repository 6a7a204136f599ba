"""TensorFlow's sorted string tables (LevelDB's format): the `.index` of a V2 checkpoint, the whole file of a V1 one."""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from typing import final

from regraft.containers.crc32c import masked_crc32c
from regraft.containers.protobuf import read_varint
from regraft.containers.snappy import decompress_snappy
from regraft.containers.spans import Span
from regraft.errors import CheckpointError

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type, masked CRC-32C of block and type
_LARGE_BLOCK = 1 << 20
_MOST_KEY_BYTES_PER_BYTE = 64  # shared beginnings shrink real names far less; without a limit 1 MB could become 100 GB


def is_table(path: Path) -> bool:
    """Whether the file ends as a table does. Never raises."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < FOOTER_BYTES:
                return False
            file.seek(size - len(MAGIC))
            return file.read() == MAGIC
    except (OSError, ValueError):
        return False


@final
class Table:
    """Keys and values of one table; only the index block is read at first. Every block's checksum is checked.

    Raises CheckpointError when the file is no table, is damaged, or points outside itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        if not is_table(path):
            raise CheckpointError(f"{path} is not a TensorFlow table: it does not end with the magic number of one.")
        footer = Span(path, self.size - FOOTER_BYTES, FOOTER_BYTES).read()
        try:
            position = _handle(footer, 0)[2]  # the first handle is of the meta-index, which TensorFlow leaves empty
            offset, size, _ = _handle(footer, position)
            self._blocks = [
                (bytes(key), *_handle(value, 0)[:2]) for key, value in _block_entries(self._block(offset, size))
            ]
        except CheckpointError as error:
            raise self._damaged(error) from error
        self._last_keys = [key for key, _, _ in self._blocks]

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """All (key, value) in the order of the file: reads it whole."""
        for _, offset, size in self._blocks:
            yield from self._entries(offset, size)

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, from the one block that can hold it; None when there is none."""
        index = bisect_left(self._last_keys, key)
        if index == len(self._blocks):
            return None
        _, offset, size = self._blocks[index]
        return next((value for stored, value in self._entries(offset, size) if stored == key), None)

    def first_value(self) -> memoryview:
        """The value of the empty key, which comes first and tells what the table holds.

        Of a large block only this entry is read, so that the arrays beside it are not: its checksum is then left out.
        """
        try:
            if not self._blocks:
                raise CheckpointError("the table is empty")
            _, offset, size = self._blocks[0]
            if size <= _LARGE_BLOCK or self._is_compressed(offset, size):
                key, value = next(self._entries(offset, size), (b"?", memoryview(b"")))
            else:
                key, value = b"", self._value_at(offset, size)
            if key != b"":
                raise CheckpointError("the first entry does not describe the table")
        except CheckpointError as error:
            raise self._damaged(error) from error
        return value

    def _is_compressed(self, offset: int, size: int) -> bool:
        return Span(self.path, offset + size, 1).read() != b"\0"

    def _value_at(self, offset: int, size: int) -> memoryview:
        """The value of the block's first entry, whose key must be empty."""
        head = Span(self.path, offset, 30).read()
        shared, position = read_varint(head, 0)
        fresh, position = read_varint(head, position)
        length, position = read_varint(head, position)
        if shared or fresh or position + length > size:
            raise CheckpointError("the first entry does not describe the table")
        return memoryview(Span(self.path, offset + position, length).read())

    def _entries(self, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
        try:
            yield from _block_entries(self._block(offset, size))
        except CheckpointError as error:
            raise self._damaged(error) from error

    def _block(self, offset: int, size: int) -> bytes | bytearray:
        """The block's content, checked and decompressed."""
        if offset + size + _TRAILER_BYTES > self.size:
            raise CheckpointError(f"a block of {size} bytes at offset {offset} reaches beyond the end of the file")
        raw = Span(self.path, offset, size + _TRAILER_BYTES).read()
        (expected,) = unpack_from("<I", raw, size + 1)
        if masked_crc32c(memoryview(raw)[: size + 1]) != expected:
            raise CheckpointError(f"the checksum of the block at offset {offset} is wrong")
        compression = raw[size]
        content = raw[:size]
        if compression == 0:
            return content
        if compression == 1:
            return decompress_snappy(content)
        raise CheckpointError(f"the block at offset {offset} has the unknown compression {compression}")

    def _damaged(self, error: CheckpointError) -> CheckpointError:
        if str(self.path) in str(error):
            return error
        return CheckpointError(f"{self.path}: {error}.\nThe file is damaged or truncated: download it again.")


def _handle(data: bytes | bytearray | memoryview, position: int) -> tuple[int, int, int]:
    """(offset, size, position after it) of a block."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def _block_entries(block: bytes | bytearray) -> Iterator[tuple[bytes, memoryview]]:
    """The block's entries: each key is stored as what differs from the key before."""
    if len(block) < 4:
        raise CheckpointError("a block is too short for its own end")
    (restarts,) = unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise CheckpointError("a block claims more restart points than it has bytes")
    view = memoryview(block)
    position, key, key_bytes = 0, b"", 0
    while position < end:
        shared, position = read_varint(view, position)
        fresh, position = read_varint(view, position)
        size, position = read_varint(view, position)
        value_at = position + fresh
        if shared > len(key) or value_at + size > end:
            raise CheckpointError("an entry of a block reaches beyond the block's end")
        key = key[:shared] + bytes(view[position:value_at])
        position = value_at + size
        key_bytes += len(key)
        if key_bytes > _MOST_KEY_BYTES_PER_BYTE * len(block):
            raise CheckpointError(f"the names in a block of {len(block)} bytes take more than {key_bytes} bytes")
        yield key, view[value_at:position]
