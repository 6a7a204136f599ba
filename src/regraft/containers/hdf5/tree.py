"""An HDF5 file as a tree of groups and arrays; what could reach outside the file is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.containers.hdf5.arrays import Values, read_values
from regraft.containers.hdf5.attributes import attributes
from regraft.containers.hdf5.file import SIGNATURE, Hdf5File
from regraft.containers.hdf5.links import links
from regraft.containers.hdf5.objects import Object, read_object
from regraft.containers.spans import Located, Span, decoded_array, located
from regraft.errors import CheckpointError

__all__ = ["SIGNATURE", "Group", "InPieces", "opened"]


_COST_OF_A_GROUP = 64  # in bytes looked at: groups that hold each other twice have 2⁴⁰ paths at 40 levels


@dataclass(frozen=True)
class InPieces:
    """An array that HDF5 stores in pieces, compressed or beside its header.

    address  of the header that describes it
    """

    span: Span
    address: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """The values, in the machine's byte order; bfloat16 and float8 widened to float32."""
        values = read_values(read_object(Hdf5File(self.span), self.address))
        if values is None or values.shape != self.shape:
            raise CheckpointError(f"{self.span.path} was changed after it was opened. Open it again.")
        return decoded_array(bytearray(values.content()), self.dtype, self.shape, order=values.type.order)


class Group:
    """A group: attributes that are texts, and children by name."""

    def __init__(self, span: Span, group: Object, depth: int = 0) -> None:
        self.span, self.group, self.depth = span, group, depth
        group.file.spend(_COST_OF_A_GROUP)
        if depth > 40:
            raise CheckpointError(f"{span.path}: groups nest deeper than 40 levels, or contain themselves. Refused.")

    def names(self) -> list[str]:
        """The children's names, sorted (which is no order of the network)."""
        return sorted(links(self.group) or {})

    def text(self, name: str) -> str | None:
        """An attribute that is one text; None when it is absent."""
        texts = attributes(self.group).get(name)
        return texts[0] if texts else None

    def has_attribute(self, name: str) -> bool:
        """Whether there is an attribute of that name, whatever its type."""
        return name in attributes(self.group)

    def texts(self, name: str) -> list[str] | None:
        """An attribute that is a list of texts; None when it is absent.

        Keras splits a list that is too long for HDF5 into `name0`, `name1` …
        """
        known = attributes(self.group)
        if known.get(name) is not None:
            return known[name]
        parts = list(takewhile(lambda part: part is not None, (known.get(f"{name}{number}") for number in count())))
        return [text for part in parts for text in part or ()] if parts else None

    def child(self, name: str) -> "Group | None":
        """The group of that name, which may be a path; None when there is none."""
        item = self._item(name)
        return Group(self.span, item, self.depth + 1) if item is not None and links(item) is not None else None

    def array(self, name: str) -> Located | InPieces | None:
        """The array of that name, which may be a path; None when there is none."""
        item = self._item(name)
        return _array(self.span, name, item) if item is not None and links(item) is None else None

    def leads_away(self, name: str) -> bool:
        """Whether the child is a link to another place or another file."""
        return (links(self.group) or {})[name] is None

    def holds_numbers(self, name: str) -> bool:
        """Whether the child is an array of numbers, rather than a link, or one of texts, of records, or of nothing."""
        item = None if self.leads_away(name) else self._item(name)
        values = read_values(item) if item is not None else None
        return item is not None and values is not None and _dtype(item, values) in ITEM_BYTES

    def _item(self, name: str) -> Object | None:
        """The object at a path. Raises CheckpointError at a link that leads out of the group: it may lead anywhere."""
        item = self.group
        for part in name.split("/"):
            inside = links(item) or {}
            if part not in inside:
                return None
            address = inside[part]
            if address is None:
                raise CheckpointError(
                    f"{self.span.path}: refused to follow the link {name!r}: only what lies in the file itself is read."
                )
            item = read_object(item.file, address)
        return item


@contextmanager
def opened(span: Span) -> Iterator[Group]:
    """The root of the HDF5 file that lies in this part of a file. Raises CheckpointError for everything damaged."""
    file = Hdf5File(span)
    yield Group(span, read_object(file, file.root))


def _array(span: Span, name: str, item: Object) -> Located | InPieces | None:
    """The place of an array. Raises CheckpointError when it lies elsewhere, holds no numbers, or claims too much."""
    try:
        values = read_values(item)
        dtype = _dtype(item, values)
        if values is None or dtype not in ITEM_BYTES:
            raise CheckpointError(f"{span.path}: it holds {dtype}, no numbers.")
        values.check_size()
    except CheckpointError as error:
        raise CheckpointError(f"{name!r} cannot be read. {error}") from error
    if values.address is not None and (values.type.order == "<" or values.type.size == 1):
        return located(span.path, name, item.file.position + values.address, values.shape, dtype)
    return InPieces(span, item.address, values.shape, dtype)


def _dtype(item: Object, values: Values | None) -> str:
    """NumPy's word for the array's type; Keras writes bfloat16 as two opaque bytes and the name into an attribute."""
    marked = attributes(item).get("dtype")
    if values is not None and values.type.dtype == "opaque" and values.type.size == 2 and marked == ["bfloat16"]:
        return "bfloat16"
    return values.type.dtype if values is not None else "nothing"
