"""Writes TensorFlow's sorted string tables (LevelDB's format), uncompressed, byte for byte as TensorFlow does.

Source: tensorflow/core/lib/io/table_builder.cc, block_builder.cc; util/tensor_bundle sets the block size.
"""

from collections.abc import Iterable, Iterator, Mapping
from struct import pack

from regraft.containers.crc32c import masked_crc32c
from regraft.containers.protobuf_writer import varint
from regraft.containers.sstable import FOOTER_BYTES, MAGIC

_BLOCK_BYTES = 256 << 10
_RESTART = 16  # entries that share beginnings of their keys


def table_bytes(entries: Mapping[bytes, bytes]) -> bytes:
    """The table of these entries, sorted by key."""
    out, index = bytearray(), list[tuple[bytes, bytes]]()
    blocks = list(_blocks(sorted(entries.items())))
    for number, block in enumerate(blocks):
        following = blocks[number + 1][0][0] if number + 1 < len(blocks) else None
        last = block[-1][0]
        separator = _successor(last) if following is None else _separator(last, following)
        index.append((separator, _add(out, _block(block, _RESTART))))
    meta = _add(out, _block([], _RESTART))
    handles = meta + _add(out, _block(index, 1))
    return bytes(out) + handles.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC


def _blocks(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """The entries in blocks that end where they reach 256 KiB."""
    block: list[tuple[bytes, bytes]] = []
    size, last = 8, b""  # the first restart point and the count of them
    for key, value in entries:
        is_restart = len(block) % _RESTART == 0
        size += len(_entry(b"" if is_restart else last, key, value)) + (4 if is_restart and block else 0)
        block.append((key, value))
        last = key
        if size >= _BLOCK_BYTES:
            yield block
            block, size = [], 8
    if block:
        yield block


def _block(entries: Iterable[tuple[bytes, bytes]], restart: int) -> bytes:
    """A block: each key as what differs from the one before, whole at every `restart`-th entry."""
    out, restarts, last = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        if number and number % restart == 0:
            restarts.append(len(out))
            last = b""
        out += _entry(last, key, value)
        last = key
    return bytes(out) + pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _entry(last: bytes, key: bytes, value: bytes) -> bytes:
    shared = _shared(last, key)
    return varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value


def _add(out: bytearray, block: bytes) -> bytes:
    """Append a block with its trailer; gives its handle."""
    handle = varint(len(out)) + varint(len(block))
    content = block + b"\0"  # no compression
    out += content + pack("<I", masked_crc32c(content))
    return handle


def _shared(first: bytes, second: bytes) -> int:
    limit = min(len(first), len(second))
    return next((index for index in range(limit) if first[index] != second[index]), limit)


def _separator(last: bytes, following: bytes) -> bytes:
    """A short key from `last` to before `following`."""
    shared = _shared(last, following)
    if shared < min(len(last), len(following)) and last[shared] < 0xFF and last[shared] + 1 < following[shared]:
        return last[:shared] + bytes([last[shared] + 1])
    return last


def _successor(key: bytes) -> bytes:
    """A short key that is not before this one."""
    for index, byte in enumerate(key):
        if byte != 0xFF:
            return key[:index] + bytes([byte + 1])
    return key
