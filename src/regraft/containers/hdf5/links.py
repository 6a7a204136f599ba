"""What a group of an HDF5 file holds, by name: old groups (symbol tables) and new ones (link messages, or a heap).

Source: HDF5 File Format Specification Version 3.0, sections III.A to III.C, IV.A.2.c, IV.A.2.g and IV.A.2.r.
"""

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File
from regraft.containers.hdf5.heaps import FractalHeap, local_heap, tree_head, tree_records
from regraft.containers.hdf5.objects import LINK, LINK_INFO, SYMBOL_TABLE, Object

_BY_NAME = 5
_SOFT_IN_OLD_GROUP = 2


def links(group: Object) -> dict[str, int | None] | None:
    """name → address of the object, None for a link that leads elsewhere (soft, external); None if it is no group."""
    if not any(message.kind in (LINK, LINK_INFO, SYMBOL_TABLE) for message in group.messages):
        return None
    addresses: dict[str, int | None] = group.file.once("group", group.address, lambda: _links(group))
    return addresses


def _links(group: Object) -> dict[str, int | None]:
    """The links of both kinds of groups."""
    file, addresses = group.file, dict(_link(message) for message in group.contents(LINK))
    for info in group.contents(LINK_INFO):
        addresses |= _dense(file, info)
    for table in group.contents(SYMBOL_TABLE):
        tree, heap = table.address("group"), table.address("group's names")
        names = local_heap(file, heap)
        for address in tree_leaves(file, tree):
            addresses |= _symbols(file, address, names)
    return addresses


def _link(cursor: Hdf5Cursor) -> tuple[str, int | None]:
    """(name, address) of a link message."""
    version, flags = cursor.number(1), cursor.number(1)
    if version != 1:
        cursor.file.damaged(f"a link of version {version}")
    kind = cursor.number(1) if flags & 8 else 0
    cursor.skip((8 if flags & 4 else 0) + (1 if flags & 0x10 else 0))
    name = cursor.raw(cursor.number(1 << (flags & 3))).decode("utf-8", errors="replace")
    return name, None if kind else cursor.address(f"link {name!r}")


def _dense(file: Hdf5File, info: Hdf5Cursor) -> dict[str, int | None]:
    """The links that lie in a heap, named by a tree."""
    info.skip(1)
    flags = info.number(1)
    info.skip(8 if flags & 1 else 0)
    heap_address, tree = info.offset(), info.offset()
    if heap_address is None or tree is None:
        return {}
    heap = FractalHeap(file, heap_address)
    addresses: dict[str, int | None] = {}
    for kind, record in tree_records(file, tree):
        if kind != _BY_NAME:
            file.damaged(f"a group's names in a tree of type {kind}")
        name, address = _link(Hdf5Cursor(file, heap.object(record[4:]), "link"))
        addresses[name] = address
    return addresses


def tree_leaves(file: Hdf5File, tree: int) -> list[int]:
    """The children of the lowest level of a group's version 1 B-tree, in order."""
    addresses: list[int] = []

    def walk(address: int, level: int | None) -> None:
        own, used = tree_head(file, address, 0, level)
        size = used * (file.length_size + file.offset_size)
        cursor = file.cursor(address + 8 + 2 * file.offset_size, size, "tree")
        for _ in range(used):
            cursor.skip(file.length_size)
            child = cursor.address("tree node")
            if own:
                walk(child, own - 1)
            else:
                addresses.append(child)

    walk(tree, None)
    return addresses


def _symbols(file: Hdf5File, address: int, names: Hdf5Cursor) -> dict[str, int | None]:
    """The entries of one node of a symbol table."""
    head = file.signed(address, 8, b"SNOD", 1)
    head.skip(1)
    count = head.number(2)
    cursor = file.cursor(address + 8, count * (2 * file.offset_size + 24), "symbol table")
    addresses: dict[str, int | None] = {}
    for _ in range(count):
        names.position = cursor.address("name")
        target, kind = cursor.offset(), cursor.number(4)
        cursor.skip(20)
        addresses[names.text()] = None if kind == _SOFT_IN_OLD_GROUP else target
    return addresses
