"""Writers of TensorFlow's tables and bundles, by the format's own words, so that tests can build any of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import pack

import numpy as np

from regraft.containers.crc32c import masked_crc32c
from regraft.containers.ordered_code import slice_key
from written import field, varint

MAGIC = bytes.fromhex("57fb808b247547db")
TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}


def shape_message(shape: Sequence[int]) -> bytes:
    """A TensorShapeProto."""
    return b"".join(field(2, field(1, size)) for size in shape)


def block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A block with shared beginnings of keys and one restart point."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), min(len(key), len(last)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + pack("<II", 0, 1)


def table(entries: Mapping[bytes, bytes], *, per_block: int = 16, compress=None) -> bytes:
    """A whole table.  compress  from a block's bytes to Snappy's; None leaves them as they are"""
    out, index, items = b"", [], sorted(entries.items())

    def add(content: bytes) -> bytes:
        nonlocal out
        kind = b"\x01" if compress else b"\x00"
        content = compress(content) if compress else content
        handle = varint(len(out)) + varint(len(content))
        out += content + kind + pack("<I", masked_crc32c(content + kind))
        return handle

    for start in range(0, len(items), per_block):
        some = items[start : start + per_block]
        index.append((some[-1][0], add(block(some))))
    footer = add(block([])) + add(block(index))
    return out + footer.ljust(40, b"\0") + MAGIC


def entry(array: np.ndarray, offset: int, *, dtype: str = "", shard: int = 0) -> bytes:
    """A BundleEntryProto; zeros are left out as TensorFlow does."""
    content = array.tobytes()
    parts = [
        (1, TYPES[dtype or array.dtype.name]),
        (2, shape_message(array.shape)),
        (3, shard),
        (4, offset),
        (5, len(content)),
    ]
    told = b"".join(field(number, value) for number, value in parts if value or number == 2)
    return told + varint(6 << 3 | 5) + pack("<I", masked_crc32c(content))


def write_bundle(
    prefix: Path, arrays: Mapping[str, np.ndarray], *, compress=None, extra: Mapping[bytes, bytes] | None = None
) -> Path:
    """`prefix.index` and its one data file."""
    entries, data = {b"": field(1, 1) + field(3, field(1, 1))}, b""
    for name, array in sorted(arrays.items()):
        entries[name.encode()] = entry(array, len(data))
        data += array.tobytes()
    Path(f"{prefix}.index").write_bytes(table(entries | dict(extra or {}), compress=compress))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    return prefix


def write_v1(path: Path, arrays: Mapping[str, np.ndarray], *, split: str = "") -> Path:
    """A V1 checkpoint of float32 arrays.  split  the array that is stored as two slices of its first axis"""
    metas, entries = b"", {}
    for name, array in arrays.items():
        half = len(array) // 2 if name == split else 0
        parts = [(0, half), (half, len(array) - half)] if name == split else [(0, -1)]
        slices = []
        for start, length in parts:
            extents = [(start, length), *[(0, -1)] * (array.ndim - 1)] if array.ndim else []
            told = [field(1, field(1, s) + field(2, n) if n >= 0 else b"") for s, n in extents]
            slices.append(field(4, b"".join(told)))
            piece = array[start : start + length] if length >= 0 else array
            saved = field(1, name.encode()) + field(3, field(5, piece.tobytes()))
            entries[slice_key(name, extents)] = field(2, saved)
        meta = field(1, name.encode()) + field(2, shape_message(array.shape)) + field(3, 1) + b"".join(slices)
        metas += field(1, meta)
    path.write_bytes(table({b"": field(1, metas)} | entries, per_block=1))
    return path
