"""Where the chunks of an HDF5 array lie: trees of old files, and single, implicit and fixed lists of new ones.

Source: HDF5 File Format Specification Version 3.0, sections III.A.1, IV.A.2.i and VII.A to VII.C.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File
from regraft.containers.hdf5.heaps import tree_head

_TREE, _SINGLE, _IMPLICIT, _FIXED, _EXTENSIBLE, _TREE_2 = range(6)
_NAMES = {_EXTENSIBLE: "an extensible list", _TREE_2: "a tree of version 2"}


Location = tuple[int, int | None, int]  # address, size and skipped filters, as in a StoredChunk


@dataclass(frozen=True)
class StoredChunk:
    """One chunk: its first element's place in the array, and where its bytes lie.

    size             bytes in the file; None where no filter changed it
    skipped_filters  a bit for each filter that the chunk did without
    """

    start: tuple[int, ...]
    address: int
    size: int | None
    skipped_filters: int = 0


@dataclass(frozen=True)
class ChunkIndex:
    """What the layout message tells.

    chunk    the shape of a chunk
    element  bytes of an element
    kind     how the chunks are listed
    root     address of the list; None when no chunk was written
    single   (size, skipped filters) of the only chunk, when filters changed its size
    """

    chunk: tuple[int, ...]
    element: int
    kind: int
    root: int | None
    single: tuple[int, int] | None = None

    @classmethod
    def read(cls, cursor: Hdf5Cursor, version: int, rank: int) -> "ChunkIndex":
        """From the layout message, behind version and class. Raises CheckpointError for lists that are not read."""
        flags = cursor.number(1) if version > 3 else 0
        if flags & 1:
            cursor.file.refuse("the chunks at an array's edges are packed otherwise than the rest")
        dimensions = cursor.number(1)
        if dimensions != rank + 1:
            cursor.file.damaged(f"chunks of {dimensions - 1} dimensions in an array of {rank}")
        if version == 3:
            root = cursor.offset()
            return cls(*_sizes(cursor, dimensions, 4), _TREE, root)
        chunk, element = _sizes(cursor, dimensions, cursor.number(1))
        kind, single = cursor.number(1), None
        if kind in _NAMES or kind not in range(1, 6):
            cursor.file.refuse(f"the chunks of an array are listed in {_NAMES.get(kind, f'the form {kind}')}")
        if kind == _SINGLE and flags & 2:
            single = cursor.length(), cursor.number(4)
        if kind == _FIXED:
            cursor.skip(1)
        return cls(chunk, element, kind, cursor.offset(), single)


def _sizes(cursor: Hdf5Cursor, count: int, width: int) -> tuple[tuple[int, ...], int]:
    """(shape of a chunk, bytes of an element): one behind the other in the file."""
    sizes = tuple(cursor.number(width) for _ in range(count))
    if not all(sizes):
        cursor.file.damaged(f"chunks of the shape {sizes[:-1]}")
    return sizes[:-1], sizes[-1]


def chunks(file: Hdf5File, index: ChunkIndex, shape: tuple[int, ...]) -> Iterator[StoredChunk]:
    """Every chunk that was written."""
    if index.root is None:
        return
    if index.kind == _TREE:
        yield from _tree(file, index.root, len(shape), None)
        return
    grid = [range(0, size, step) for size, step in zip(shape, index.chunk, strict=True)]
    locations = _locations(file, index, index.root, count=prod(map(len, grid)))
    for start, location in zip(product(*grid), locations, strict=False):
        if location is not None:
            yield StoredChunk(start, *location)


def _locations(file: Hdf5File, index: ChunkIndex, root: int, *, count: int) -> Iterator[Location | None]:
    """Where each chunk lies, in C order; None for one that was never written."""
    if index.kind == _SINGLE:
        yield root, *(index.single or (None, 0))
    elif index.kind == _IMPLICIT:
        size = prod(index.chunk) * index.element
        yield from ((root + number * size, None, 0) for number in range(count))
    else:
        yield from _fixed(file, root, count)


def _tree(file: Hdf5File, address: int, rank: int, level: int | None) -> Iterator[StoredChunk]:
    """The chunks below one node of a version 1 B-tree."""
    own, used = tree_head(file, address, 1, level)
    entry = 8 + 8 * (rank + 1) + file.offset_size
    cursor = file.cursor(address + 8 + 2 * file.offset_size, used * entry, "tree of chunks")
    for _ in range(used):
        size, skipped = cursor.number(4), cursor.number(4)
        start = tuple(cursor.number(8) for _ in range(rank))
        cursor.skip(8)
        child = cursor.address("chunk")
        if own:
            yield from _tree(file, child, rank, own - 1)
        else:
            yield StoredChunk(start, child, size, skipped)


def _fixed(file: Hdf5File, address: int, count: int) -> Iterator[Location | None]:
    """From a list with a place for each chunk."""
    head = file.signed(address, 8 + file.length_size + file.offset_size, b"FAHD", 0)
    is_filtered, width, page_bits = head.number(1), head.number(1), head.number(1)
    if head.length() != count or page_bits > 32:
        file.refuse(f"a list of chunks is longer than the {count} chunks of the array")
    block = head.offset()
    if block is None:
        return
    per_page = 1 << page_bits
    position = block + 6 + file.offset_size
    pages = -(-count // per_page) if count > per_page else 0
    present = file.take(position, -(-pages // 8), "list of chunks")
    position += len(present) + (4 if pages else 0)
    for first in range(0, count, per_page):
        used = min(per_page, count - first)
        page = first // per_page
        if pages and not present[page // 8] >> (7 - page % 8) & 1:
            yield from [None] * used
        else:
            cursor = file.cursor(position, used * width, "list of chunks")
            for _ in range(used):
                yield _place(cursor, width, is_filtered)
        position += used * width + 4


def _place(cursor: Hdf5Cursor, width: int, is_filtered: int) -> tuple[int, int | None, int] | None:
    """One entry of a fixed list."""
    address = cursor.offset()
    size = cursor.number(width - cursor.file.offset_size - 4) if is_filtered else None
    skipped = cursor.number(4) if is_filtered else 0
    return None if address is None else (address, size, skipped)
