"""Heaps of HDF5: names of old groups (local), texts of any length (global), and what large new groups hold (fractal).

Source: HDF5 File Format Specification Version 3.0, sections III.A.2, III.D, III.E and III.G.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File

_MANAGED, _TINY = 0, 2


def local_heap(file: Hdf5File, address: int) -> Hdf5Cursor:
    """The bytes of a local heap, in which names stand at their offsets."""
    head = file.signed(address, 8 + 2 * file.length_size + file.offset_size, b"HEAP", 0)
    head.skip(3)
    size, _, data = head.length(), head.length(), head.address("local heap")
    return file.cursor(data, size, "local heap")


def global_object(file: Hdf5File, address: int, index: int) -> bytes:
    """The object of that number in the collection at the address."""
    objects: dict[int, bytes] = file.once("global heap", address, lambda: dict(_collection(file, address)))
    if index not in objects:
        file.damaged(f"no object {index} in the heap at {address}")
    return objects[index]


def _collection(file: Hdf5File, address: int) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each object; number 0 is the free rest."""
    head = file.signed(address, 8 + file.length_size, b"GCOL", 1)
    head.skip(3)
    cursor = file.cursor(address, head.length(), "global heap")
    cursor.skip(8 + file.length_size)
    while cursor.left >= 8 + file.length_size:
        index = cursor.number(2)
        cursor.skip(6)
        size = cursor.length()
        if index == 0:
            return
        yield index, cursor.raw(size)
        cursor.align()


@dataclass(frozen=True)
class _Shape:
    """What a fractal heap's header tells of the sizes of its blocks."""

    width: int
    start: int
    most_direct: int
    offset_bytes: int
    length_bytes: int
    block_head: int

    def row_size(self, row: int) -> int:
        """Bytes of a block in that row: they double from the second row on."""
        return self.start << max(0, row - 1)


class FractalHeap:
    """The objects of a fractal heap, by their identifiers."""

    def __init__(self, file: Hdf5File, address: int) -> None:
        self.file = file
        offset, length = file.offset_size, file.length_size
        head = file.signed(address, 22 + 12 * length + 3 * offset, b"FRHP", 0)
        self.id_size, filter_size = head.number(2), head.number(2)
        if filter_size:
            file.refuse("a group's heap is compressed")
        head.skip(1)
        most_managed = head.number(4)
        head.skip(10 * length + 2 * offset)
        width, start, most_direct, bits = head.number(2), head.length(), head.length(), head.number(2)
        head.skip(2)
        root, rows = head.offset(), head.number(2)
        is_power_of_two = start.bit_count() == 1
        if not (width and is_power_of_two and most_direct >= start) or bits > 64 or rows > 64:
            file.damaged(f"the heap at {address} has blocks of {start} bytes in rows of {width}")
        offset_bytes = -(-bits // 8)
        length_bytes = (min(most_direct, most_managed).bit_length() + 7) // 8
        self._shape = _Shape(width, start, most_direct, offset_bytes, length_bytes, 5 + offset + offset_bytes)
        self._blocks: list[tuple[int, int, int]] = []
        if root is not None and rows:
            self._walk(root, 0, rows, depth=0)
        elif root is not None:
            self._blocks.append((0, start, root))

    def object(self, identifier: bytes) -> bytes:
        """The object of that identifier."""
        cursor = Hdf5Cursor(self.file, identifier, "heap identifier")
        kind = (cursor.number(1) >> 4) & 3
        if kind == _TINY:
            return cursor.raw((identifier[0] & 15) + 1)
        if kind != _MANAGED:
            self.file.refuse("an entry of a group is larger than its heap's blocks")
        offset, size = cursor.number(self._shape.offset_bytes), cursor.number(self._shape.length_bytes)
        holder = next(
            (block for block in self._blocks if block[0] <= offset and offset + size <= block[0] + block[1]), None
        )
        if holder is None:
            self.file.damaged(f"no heap block holds {size} bytes at {offset}")
        return self.file.take(holder[2] + offset - holder[0], size, "heap object")

    def _walk(self, address: int, begin: int, rows: int, depth: int) -> None:
        """Collect (offset in the heap, size, address) of the direct blocks below an indirect one."""
        shape, file = self._shape, self.file
        if depth > 8:
            file.damaged("a heap's blocks contain themselves")
        cursor = file.signed(address, shape.block_head + rows * shape.width * file.offset_size, b"FHIB", 0)
        cursor.skip(shape.block_head - 5)
        for row in range(rows):
            size = shape.row_size(row)
            for _ in range(shape.width):
                child = cursor.offset()
                if child is not None and size <= shape.most_direct:
                    file.check(child, min(size, shape.block_head), "heap block")
                    self._blocks.append((begin, size, child))
                elif child is not None:
                    inner = (size // (shape.start * shape.width)).bit_length()
                    self._walk(child, begin, min(inner, 64), depth + 1)
                begin += size


def tree_head(file: Hdf5File, address: int, kind: int, level: int | None) -> tuple[int, int]:
    """(level, entries) of a node of a version 1 B-tree, which must be of that kind, and of that level unless None."""
    cursor = file.cursor(address, 8, "tree node")
    if cursor.raw(4) != b"TREE" or cursor.number(1) != kind:
        file.damaged(f"no tree node of type {kind} at {address}")
    own = cursor.number(1)
    if own != level if level is not None else own > 32:
        file.damaged(f"the tree node at {address} is of level {own}")
    return own, cursor.number(2)


def tree_records(file: Hdf5File, address: int) -> list[tuple[int, bytes]]:
    """(type, record) of each entry of a version 2 B-tree, in its order."""
    head = file.signed(address, 16 + file.offset_size + 2 + file.length_size, b"BTHD", 0)
    kind, node_size, record_size, depth = head.number(1), head.number(4), head.number(2), head.number(2)
    head.skip(2)
    root, count = head.offset(), head.number(2)
    if root is None:
        return []
    if depth > 8 or not record_size or node_size < 10 + record_size:
        file.damaged(f"the tree at {address} has {depth} levels and records of {record_size} bytes")
    counts = [(node_size - 10) // record_size]  # most records of a leaf, then most below a node of each level
    pointer = [0]
    totals = [counts[0]]
    for level in range(1, depth + 1):
        total_size = _bytes_for(totals[level - 1]) if level > 1 else 0
        pointer.append(file.offset_size + _bytes_for(counts[0]) + total_size)
        counts.append((node_size - 10 - pointer[level]) // (record_size + pointer[level]))
        if counts[level] < 1:
            file.damaged(f"the tree at {address} has nodes without room")
        totals.append((counts[level] + 1) * totals[level - 1] + counts[level])
    records: list[tuple[int, bytes]] = []

    def walk(node: int, level: int, used: int) -> None:
        size = 6 + used * record_size + (used + 1) * pointer[level]
        cursor = file.signed(node, size if level else 6 + used * record_size, b"BTIN" if level else b"BTLF", 0)
        cursor.skip(1)
        own = [(kind, cursor.raw(record_size)) for _ in range(used)]
        for number in range(used + 1 if level else 0):
            child, below = cursor.address("tree node"), cursor.number(_bytes_for(counts[0]))
            cursor.skip(pointer[level] - file.offset_size - _bytes_for(counts[0]))
            walk(child, level - 1, below)
            records.extend(own[number : number + 1])
        if not level:
            records.extend(own)

    walk(root, depth, count)
    return records


def _bytes_for(number: int) -> int:
    """Bytes that hold the number."""
    return max(1, (number.bit_length() + 7) // 8)
