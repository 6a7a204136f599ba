"""Commit records: what shards hold, for which entry, their sizes and checksums; one, or a thousand in one file.

A file of records is a table: 8 bytes of length, a JSON head, the columns as raw bytes, and a SHA-256 of all before. A
commit record is a table of one part, a catalogue one of many, so there is one reader for both.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, final
from zlib import crc32

import numpy as np
from torch import Tensor

from regraft.errors import CacheError
from regraft.foundation.wording import counted
from regraft.stores.place import Place
from regraft.stores.shards import DTYPES, StoredTensor, layout_of, shard_chunks
from regraft.stores.store import Part
from regraft.tensors.fingerprints import ID_BYTES, canonical_json

BLOCK_BYTES = 1 << 20  # what is checked at once: small enough for single rows, large enough for the check to be cheap
SHA_BYTES = 32

Layout = dict[str, StoredTensor]


@final
@dataclass(frozen=True, eq=False)
class CommitRecord:
    """What one shard holds, its size and checksums.

    key         of the entry that it was written for
    checksums   (blocks,) uint32, CRC-32 of each block of the shard
    """

    key: str
    part: Part
    size: int
    sha256: bytes
    tensors: Layout
    checksums: np.ndarray

    @property
    def file(self) -> str:
        """The shard's name. It has the checksum, so builders that round differently never mix their files."""
        return f"{self.part.name}-{self.sha256[:4].hex()}.safetensors"


def make_record(
    name: str, ids: np.ndarray, tensors: Mapping[str, Tensor], *, key: str
) -> tuple[CommitRecord, list[bytes | memoryview]]:
    """The record of a shard, and the shard's bytes in pieces.

    key  of the entry; a record that was copied from another one is refused by it
    """
    head, stored = layout_of(tensors)
    chunks = shard_chunks(head, tensors, stored)
    total, checksums = hashlib.sha256(), list[int]()
    size = running = 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        total.update(view)
        while view:
            piece = view[: BLOCK_BYTES - size % BLOCK_BYTES]
            running = crc32(piece, running)
            size += len(piece)
            view = view[len(piece) :]
            if size % BLOCK_BYTES == 0:
                checksums.append(running)
                running = 0
    if size % BLOCK_BYTES:
        checksums.append(running)
    part = Part(name, ids.copy(), {leaf: (tensor.dtype, tensor.shape) for leaf, tensor in stored.items()})
    return CommitRecord(key, part, size, total.digest(), stored, np.array(checksums, "<u4")), chunks


@final
class RecordTable:
    """The records of many parts as columns: few bytes and no Python object for each."""

    def __init__(
        self, key: str, names: np.ndarray, layouts: Sequence[Layout], columns: Mapping[str, np.ndarray]
    ) -> None:
        self.key, self.names, self.layouts, self.columns = key, names, list(layouts), columns
        self._row_ends = np.cumsum([0, *columns["rows"]])
        self._block_ends = np.cumsum([0, *_blocks(columns["sizes"])])
        shapes = [{leaf: (tensor.dtype, tensor.shape) for leaf, tensor in layout.items()} for layout in self.layouts]
        self._shapes: list[dict[str, tuple[str, tuple[int, ...]]]] = shapes

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def of(records: Sequence[CommitRecord]) -> "RecordTable":
        """The table of these records of one entry, in the order of their names."""
        records = sorted(records, key=lambda record: record.part.name)
        numbers: dict[str, int] = {}
        layout = [numbers.setdefault(_layout_text(record.tensors), len(numbers)) for record in records]
        columns = {
            "rows": np.array([record.part.count for record in records], "<i8"),
            "sizes": np.array([record.size for record in records], "<i8"),
            "layout": np.array(layout, "<i4"),
            "sha256": np.frombuffer(b"".join(record.sha256 for record in records), np.uint8).reshape(-1, SHA_BYTES),
            "crc32": np.concatenate([record.checksums for record in records]),
            "ids": np.concatenate([record.part.ids for record in records]),
        }
        names = np.array([record.part.name.encode() for record in records])
        return RecordTable(records[0].key, names, [_layout_of(json.loads(text)) for text in numbers], columns)

    def part_names(self) -> list[str]:
        """The names of all parts."""
        return [name.decode() for name in self.names.tolist()]

    def files(self) -> Iterator[tuple[str, str, int]]:
        """Name, shard and the shard's size of each part."""
        starts = [row.hex() for row in np.ascontiguousarray(self.columns["sha256"][:, :4]).view("V4")[:, 0].tolist()]
        for name, start, size in zip(self.part_names(), starts, self.columns["sizes"].tolist(), strict=True):
            yield name, f"{name}-{start}.safetensors", size

    @cached_property
    def parts(self) -> list[Part]:
        """All parts; their ids lie in the table."""
        ids, shapes = self.columns["ids"], [self._shapes[layout] for layout in self.columns["layout"].tolist()]
        ranges = pairwise(self._row_ends.tolist())
        return [Part(*each) for each in zip(self.part_names(), (ids[a:b] for a, b in ranges), shapes, strict=True)]

    def record(self, row: int) -> CommitRecord:
        """The record in this row."""
        checksums = self.columns["crc32"][self._block_ends[row] : self._block_ends[row + 1]]
        return CommitRecord(
            self.key,
            self.parts[row],
            int(self.columns["sizes"][row]),
            self.columns["sha256"][row].tobytes(),
            self.layouts[self.columns["layout"][row]],
            checksums,
        )

    def content(self) -> bytes:
        """The file's bytes."""
        head = {
            "key": self.key,
            "names": [name.decode() for name in self.names],
            "layouts": [json.loads(_layout_text(layout)) for layout in self.layouts],
            "columns": {name: [column.dtype.str, list(column.shape)] for name, column in self.columns.items()},
        }
        text = canonical_json(head).encode()
        text += b" " * (-(8 + len(text)) % 8)
        columns = [np.ascontiguousarray(self.columns[name]).tobytes() for name in sorted(self.columns)]
        body = b"".join([len(text).to_bytes(8, "little"), text, *columns])
        return body + hashlib.sha256(body).digest()


def read_table(place: Place, file: str, *, key: str) -> RecordTable:
    """The records in a file of the entry `key`.

    Raises FileNotFoundError, and CacheError that names the file when it is not what was written, or was written for
    another entry.
    """
    try:
        content = place.read(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(f"{place.where(file)} cannot be read: {error}") from error
    table = decode(content)
    way_out = "Nothing of this part is used. Remove the file and run again: only its rows are computed again."
    if table is None:
        raise CacheError(f"{place.where(file)} has changed since it was written: its checksum does not fit.\n{way_out}")
    if table.key != key:
        raise CacheError(f"{place.where(file)} belongs to the entry {table.key}, and was copied into {key}.\n{way_out}")
    return table


def changed_shard(place: Place, record: CommitRecord, what: str) -> CacheError:
    """The error for a shard that is not what was committed."""
    return CacheError(
        f"{place.where(f'parts/{record.file}')} has changed since it was written: {what}.\n"
        "Nothing of it is used. Remove the file and run again: only "
        f"{counted(record.part.count, 'row', 'is/are')} computed again."
    )


def decode(content: bytes) -> RecordTable | None:
    """The table in the bytes of a file; None when they are not what was written."""
    body = content[:-SHA_BYTES]
    if hashlib.sha256(body).digest() != content[-SHA_BYTES:]:
        return None
    try:
        start = 8 + int.from_bytes(body[:8], "little")
        head = json.loads(body[8:start])
        columns = dict[str, np.ndarray]()
        for name, (dtype, shape) in sorted(head["columns"].items()):
            kind, count = np.dtype(str(dtype)), prod(map(int, shape))
            columns[str(name)] = np.frombuffer(body, kind, count, start).reshape(shape)
            start += count * kind.itemsize
        names = np.array([str(name).encode() for name in head["names"]])
        table = RecordTable(str(head["key"]), names, list(map(_layout_of, head["layouts"])), columns)
        return table if start == len(body) and _fits(table) else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError, IndexError):
        return None


def _fits(table: RecordTable) -> bool:
    """Whether the columns are as long as the parts need, and the tensors lie in their shards."""
    columns, count = table.columns, len(table)
    rows, sizes, layout = columns["rows"], columns["sizes"], columns["layout"]
    lengths = [len(columns[name]) for name in ("rows", "sizes", "layout", "sha256")]
    if not count or lengths != [count] * 4 or min(rows.min(), sizes.min(), layout.min()) < 0:
        return False
    if columns["ids"].shape != (rows.sum(), ID_BYTES) or len(columns["crc32"]) != _blocks(sizes).sum():
        return False
    smallest = np.full(len(table.layouts), np.iinfo(np.int64).max)
    np.minimum.at(smallest, layout, sizes)
    return all(
        _lies_within(tensor, int(size))
        for tensors, size in zip(table.layouts, smallest, strict=True)
        for tensor in tensors.values()
    )


def _lies_within(tensor: StoredTensor, size: int) -> bool:
    """Whether the tensor lies in a shard of this size and has as many bytes as its shape needs."""
    if tensor.dtype not in DTYPES or min(tensor.shape, default=0) < 0:
        return False
    needed = DTYPES[tensor.dtype].itemsize * prod(tensor.shape)
    return 0 <= tensor.start <= tensor.stop <= size and tensor.stop - tensor.start == needed


def _blocks(sizes: np.ndarray) -> np.ndarray:
    """Blocks of shards of these sizes."""
    return -(-sizes // BLOCK_BYTES)


def _layout_text(layout: Layout) -> str:
    return canonical_json({leaf: [t.dtype, list(t.shape), t.start, t.stop] for leaf, t in layout.items()})


def _layout_of(facts: Mapping[str, Any]) -> Layout:
    return {
        str(leaf): StoredTensor(str(dtype), tuple(map(int, shape)), int(start), int(stop))
        for leaf, (dtype, shape, start, stop) in facts.items()
    }
