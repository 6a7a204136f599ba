"""Arrays of an HDF5 file: type, shape, and where the values lie, in one piece or in chunks.

Source: HDF5 File Format Specification Version 3.0, sections IV.A.2.i, III.A.1 and VII.
"""

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from regraft.containers.hdf5.chunks import ChunkIndex, StoredChunk, chunks
from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File
from regraft.containers.hdf5.filters import Filter, read_filters, unfiltered
from regraft.containers.hdf5.objects import DATASPACE, DATATYPE, EXTERNAL_FILES, FILTERS, LAYOUT, Object
from regraft.containers.hdf5.types import ElementType, read_shape, read_type

_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = range(4)
# Weights compress to about 0.9, zeros far better; more than this for each byte of the whole file is a bomb.
_MOST_BYTES_PER_BYTE = 32
_FREE_BYTES = 1 << 16
# A chunk and its entry in the list; arrays of a chunk for each byte would take minutes.
_LEAST_BYTES_OF_A_CHUNK, _FREE_CHUNKS = 9, 1024


@dataclass(frozen=True)
class Values:
    """An array: its type, its shape, and its bytes in one of three forms.

    address  of the bytes in one piece; None when they lie in the header, in chunks, or nowhere
    inline   the bytes, when they lie in the header
    index    where the chunks are listed
    """

    file: Hdf5File
    type: ElementType
    shape: tuple[int, ...]
    address: int | None
    inline: bytes | None
    index: ChunkIndex | None
    filters: tuple[Filter, ...]

    @property
    def size(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * self.type.size

    def content(self) -> bytes:
        """The bytes in C order, as stored. Raises CheckpointError when some are missing."""
        if self.inline is not None:
            if len(self.inline) != self.size:
                self.file.damaged(f"an array of {self.size} bytes holds {len(self.inline)}")
            return self.inline
        if self.index is not None:
            return self._from_chunks(self.index)
        if self.address is None and self.size:
            self.file.damaged("the values of an array were never written")
        return self.file.take(self.address or 0, self.size, "array")

    def check_size(self) -> None:
        """Raises CheckpointError when the array claims more than the file can hold."""
        if self.address is not None:
            self.file.check(self.address, self.size, "array")
        if self.index is not None:
            sides = zip(self.shape, self.index.chunk, strict=True)
            claimed = self.type.size * prod(-(-size // step) * step for size, step in sides)
            if claimed > _MOST_BYTES_PER_BYTE * self.file.size + _FREE_BYTES:
                self.file.damaged(f"an array claims {claimed} bytes in a file of {self.file.size}")

    def _from_chunks(self, index: ChunkIndex) -> bytes:
        """The chunks put together."""
        self.check_size()
        values = np.empty((*self.shape, self.type.size), np.uint8)
        for chunk in self._all_chunks(index):
            part = self._chunk(chunk, index)
            target = values[
                tuple(slice(first, first + step) for first, step in zip(chunk.start, index.chunk, strict=True))
            ]
            target[...] = part[tuple(slice(0, size) for size in target.shape)]
        return values.tobytes()

    def _all_chunks(self, index: ChunkIndex) -> list[StoredChunk]:
        """The chunks in C order. Raises CheckpointError when one was never written."""
        grid = [range(0, size, step) for size, step in zip(self.shape, index.chunk, strict=True)]
        total = prod(map(len, grid))
        if total > self.file.size // _LEAST_BYTES_OF_A_CHUNK + _FREE_CHUNKS:
            self.file.damaged(f"an array has {total} chunks in a file of {self.file.size} bytes")
        written = {chunk.start: chunk for chunk in chunks(self.file, index, self.shape)}
        stored = [written[start] for start in product(*grid) if start in written]
        if len(stored) < total:
            self.file.damaged(f"{total - len(stored)} of {total} chunks of an array were never written")
        return stored

    def _chunk(self, chunk: StoredChunk, index: ChunkIndex) -> np.ndarray:
        """One chunk's bytes, an axis for the bytes of an element last."""
        size = prod(index.chunk) * self.type.size
        stored = self.file.take(chunk.address, size if chunk.size is None else chunk.size, "chunk")
        content = unfiltered(self.file, stored, self.filters, chunk.skipped_filters, size)
        return np.frombuffer(content, np.uint8).reshape(*index.chunk, self.type.size)


def read_values(item: Object) -> Values | None:
    """The array that the object is; None when it is none, or has no elements at all."""
    file = item.file
    described, space, layout = (item.content(kind) for kind in (DATATYPE, DATASPACE, LAYOUT))
    if described is None or space is None or layout is None:
        return None
    shape = read_shape(space)
    if shape is None:
        return None
    if item.content(EXTERNAL_FILES):
        file.refuse("an array's values lie in other files")
    filters = item.content(FILTERS)
    address, inline, index = _layout(layout, len(shape))
    kind = read_type(described)
    if index is not None and index.element != kind.size:
        file.damaged(f"chunks of elements of {index.element} bytes, in an array of {kind.size}")
    return Values(file, kind, shape, address, inline, index, read_filters(filters) if filters else ())


def _layout(cursor: Hdf5Cursor, rank: int) -> tuple[int | None, bytes | None, ChunkIndex | None]:
    """(address, bytes in the header, chunks): one of the three, or none when nothing was written."""
    version, kind = cursor.number(1), cursor.number(1)
    if version not in (3, 4, 5):
        cursor.file.refuse(f"an array's layout is of version {version}")
    if kind == _COMPACT:
        return None, cursor.raw(cursor.number(2)), None
    if kind == _CONTIGUOUS:
        return cursor.offset(), None, None
    if kind == _VIRTUAL:
        cursor.file.refuse("an array's values lie in other files")
    if kind != _CHUNKED:
        cursor.file.damaged(f"an array's layout is {kind}")
    return None, None, ChunkIndex.read(cursor, version, rank)
