"""An HDF5 file as a tree of groups and arrays, read with h5py; what could reach outside the file is refused."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from regraft.arrays import ITEM_BYTES
from regraft.errors import CheckpointError, MissingLibraryError
from regraft.formats.located import Located, located
from regraft.formats.stored import Span

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_BYTES_PER_BYTE = 32  # weights compress to about 0.9; a larger claim than this is a bomb


@dataclass(frozen=True)
class InPieces:
    """An array that HDF5 stores in pieces, compressed or beside its header: read through h5py."""

    span: Span
    inside: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """The values, in the machine's byte order."""
        with opened(self.span) as root:
            values = root.group[self.inside][()]
        return np.asarray(values, dtype=self.dtype)


class Group:
    """A group: attributes that are texts, and children by name."""

    def __init__(self, span: Span, group: Any, depth: int = 0) -> None:
        self.span, self.group, self.depth = span, group, depth
        if depth > 40:
            raise CheckpointError(f"{span.path}: groups nest deeper than 40 levels, or contain themselves. Refused.")

    def names(self) -> list[str]:
        """The children's names, as HDF5 sorts them (which is no order of the network)."""
        return list(self.group)

    def text(self, name: str) -> str | None:
        """An attribute that is one text; None when it is absent."""
        return _text(self.group.attrs[name]) if name in self.group.attrs else None

    def texts(self, name: str) -> list[str] | None:
        """An attribute that is a list of texts; None when it is absent.

        Keras splits a list that is too long for HDF5 into `name0`, `name1` …
        """
        attributes = self.group.attrs
        if name in attributes:
            return [_text(one) for one in np.atleast_1d(attributes[name])]
        found: list[str] = []
        part = 0
        while f"{name}{part}" in attributes:
            found.extend(_text(one) for one in np.atleast_1d(attributes[f"{name}{part}"]))
            part += 1
        return found if part else None

    def child(self, name: str) -> "Group | None":
        """The group of that name, which may be a path; None when there is none."""
        found = self._item(name)
        return Group(self.span, found, self.depth + 1) if found is not None and hasattr(found, "keys") else None

    def array(self, name: str) -> Located | InPieces | None:
        """The array of that name, which may be a path; None when there is none."""
        found = self._item(name)
        return _array(self.span, found) if found is not None and not hasattr(found, "keys") else None

    def _item(self, name: str) -> Any:
        """The object at a path. Raises CheckpointError at a link that leads out of the group: it may lead anywhere."""
        import h5py

        group = self.group
        for part in name.split("/"):
            link = group.get(part, getlink=True) if hasattr(group, "keys") else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise CheckpointError(
                    f"{self.span.path}: refused to follow the link {name!r}: only what lies in the file itself is read."
                )
            group = group[part]
        return group


@contextmanager
def opened(span: Span) -> Iterator[Group]:
    """The root of the HDF5 file that lies in this part of a file.

    Raises MissingLibraryError without h5py, and CheckpointError for everything that h5py finds damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingLibraryError(
            f'{span.path} is an HDF5 file; reading it needs h5py. Install it with: pip install "regraft[keras]"'
        ) from error
    try:
        with _Part(span) as part, h5py.File(part, "r") as file:
            yield Group(span, file)
    except CheckpointError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, MemoryError) as error:
        raise CheckpointError(
            f"{span.path}: the HDF5 file is damaged or cut short ({type(error).__name__}: {error}).\nFetch it again."
        ) from error


class _Part(io.RawIOBase):
    """A part of a file as a file of its own, for h5py."""

    def __init__(self, span: Span) -> None:
        self.span, self.position, self.file = span, 0, span.path.open("rb")

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.span.offset + self.position)
        count = self.file.readinto(memoryview(buffer)[: max(0, self.span.size - self.position)])
        self.position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.span.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()


def _text(value: Any) -> str:
    """bytes or str → str."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _array(span: Span, dataset: Any) -> Located | InPieces:
    """The place of a dataset. Raises CheckpointError when it lies elsewhere, holds no numbers, or claims too much."""
    path, name, shape = span.path, dataset.name, dataset.shape
    dtype = "bfloat16" if dataset.attrs.get("dtype") == "bfloat16" else dataset.dtype.name
    if dtype not in ITEM_BYTES or shape is None:
        raise CheckpointError(f"{path}: {name} holds {dtype}, no numbers.")
    if dataset.is_virtual or dataset.external:
        raise CheckpointError(f"{path}: refused to read {name}: its values lie in other files.")
    wanted = int(np.prod(shape, dtype=object)) * dataset.dtype.itemsize
    offset, stored = dataset.id.get_offset(), dataset.id.get_storage_size()
    if wanted > min(stored, span.size) * (1 if offset is not None or not dataset.compression else _MOST_BYTES_PER_BYTE):
        raise CheckpointError(f"{path}: {name} claims {wanted} bytes and {stored} are stored. The file is damaged.")
    if offset is not None and dataset.dtype.byteorder != ">" and dataset.dtype.itemsize == ITEM_BYTES[dtype]:
        if offset + wanted > span.size:
            raise CheckpointError(f"{path}: {name} reaches beyond the file's end. It is cut short: fetch it again.")
        return located(path, name, span.offset + offset, shape, dtype)
    return InPieces(span, name, tuple(shape), "float32" if dtype == "bfloat16" else dtype)
