"""Attributes of an HDF5 object: the values of those that are texts or lists of texts, the names of all.

Source: HDF5 File Format Specification Version 3.0, sections IV.A.2.m and IV.A.2.v.
"""

from math import prod

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File
from regraft.containers.hdf5.heaps import FractalHeap, global_object, tree_records
from regraft.containers.hdf5.objects import ATTRIBUTE, ATTRIBUTE_INFO, DATASPACE, DATATYPE, Object, unshared
from regraft.containers.hdf5.types import ElementType, read_shape, read_type

_DENSE = 8


def attributes(owner: Object) -> dict[str, list[str] | None]:
    """name → texts, a list of one for an attribute that is no list; None for what holds no texts."""
    values: dict[str, list[str] | None] = owner.file.once(
        "attributes of the object", owner.address, lambda: _read(owner)
    )
    return values


def _read(owner: Object) -> dict[str, list[str] | None]:
    """Those in the header, and those in a heap."""
    cursors = owner.contents(ATTRIBUTE)
    for info in owner.contents(ATTRIBUTE_INFO):
        cursors.extend(_dense(owner.file, info))
    return dict(_attribute(cursor) for cursor in cursors)


def _dense(file: Hdf5File, info: Hdf5Cursor) -> list[Hdf5Cursor]:
    """The attributes that lie in a heap, listed by a tree."""
    info.skip(1)
    flags = info.number(1)
    info.skip(2 * (flags & 1))
    address, tree = info.offset(), info.offset()
    if address is None or tree is None:
        return []
    heap = FractalHeap(file, address)
    cursors = []
    for kind, record in tree_records(file, tree):
        if kind != _DENSE or len(record) < 9 or record[8] & 2:
            file.refuse("attributes lie in a shared heap")
        cursors.append(Hdf5Cursor(file, heap.object(record[:8]), "attribute"))
    return cursors


def _attribute(cursor: Hdf5Cursor) -> tuple[str, list[str] | None]:
    """(name, texts), None for what holds no texts."""
    version, flags = cursor.number(1), cursor.number(1)
    if version not in (1, 2, 3):
        cursor.file.damaged(f"an attribute of version {version}")
    sizes = [cursor.number(2) for _ in range(3)]
    cursor.skip(int(version == 3))
    pad = 8 if version == 1 else 1
    name, described, space = (_padded(cursor, size, pad) for size in sizes)
    kind = read_type(_part(cursor.file, described, DATATYPE, flags & 1))
    shape = read_shape(_part(cursor.file, space, DATASPACE, flags & 2))
    texts = None if shape is None or kind.dtype != "text" else _texts(cursor, kind, prod(shape))
    return name.rstrip(b"\0").decode("utf-8", errors="replace"), texts


def _padded(cursor: Hdf5Cursor, size: int, pad: int) -> bytes:
    """So many bytes, and what fills them up to a multiple."""
    content = cursor.raw(size)
    cursor.skip(-size % pad)
    return content


def _part(file: Hdf5File, content: bytes, kind: int, is_shared: int) -> Hdf5Cursor:
    """The type or the shape of an attribute, which may lie in another object."""
    cursor = Hdf5Cursor(file, content, "attribute")
    return unshared(file, kind, cursor) if is_shared else cursor


def _texts(cursor: Hdf5Cursor, kind: ElementType, count: int) -> list[str]:
    """Texts of one length stand here, others in a heap."""
    file = cursor.file
    if count * max(1, kind.size) > cursor.left:
        file.damaged(f"an attribute of {count} texts has {cursor.left} bytes")
    raw = []
    for _ in range(count):
        if kind.is_variable:
            size, address, index = cursor.number(4), cursor.offset(), cursor.number(4)
            raw.append(global_object(file, address, index)[:size] if address and size else b"")
        else:
            raw.append(cursor.raw(kind.size).split(b"\0", 1)[0])
    return [text.decode("utf-8", errors="replace") for text in raw]
