"""NumPy's own files: `.npy` with one array and `.npz` with many; also those that hide a pickle of arrays."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np

from regraft.arrays import ArrayInfo, Checkpoint
from regraft.containers.npy_header import (
    MAGIC,
    MOST_HEADER_BYTES,
    NoNumbersError,
    NpyHeader,
    left_out_note,
    parse_npy_header,
)
from regraft.containers.spans import Span, checked_size, decoded_array
from regraft.containers.zip_archive import Member, ZipArchive
from regraft.errors import CheckpointError
from regraft.formats.format import Format
from regraft.formats.pickled_arrays import Arrays, arrays_of_pickled_bytes, arrays_of_pickled_file
from regraft.formats.roles import with_roles
from regraft.formats.writers import layout_by_names


@final
class NumpyArray(Format):
    """One `.npy`: an array of numbers, or a pickled dictionary or list of arrays."""

    name = "npy"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the file begins as NumPy's arrays do."""
        return head.startswith(MAGIC)

    def open(self, path: Path) -> Checkpoint:
        """One array, named by the file without its suffix; or those of the pickle inside, by their keys."""
        size = path.stat().st_size
        begin = bytes(Span(path, 0, min(size, MOST_HEADER_BYTES)).read())
        header = parse_npy_header(begin, path=path, name=path.name)
        if header.dtype == "object":
            pickled = arrays_of_pickled_file(path, header.start)
            arrays = pickled.arrays
            notes: tuple[str, ...] = ("The file hides a pickle; it was read without executing anything.",)
            notes += pickled.notes()
        else:
            content = Span(path, header.start, _checked(path, path.stem, header, size))
            arrays = {path.stem: (_info(header), lambda: _values(content.read(), header))}
            notes = ()
        infos = with_roles({name: info for name, (info, _) in arrays.items()})
        return Checkpoint(
            path, self.name, layout_by_names(infos), infos, lambda name: arrays[name][1](), (path,), notes=notes
        )


@final
class NumpyArchive(Format):
    """An `.npz`: a ZIP archive of `.npy` members."""

    name = "npz"

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether it is an archive whose first member is an `.npy`."""
        size = int.from_bytes(head[26:28], "little")
        return head.startswith(b"PK\x03\x04") and head[30 : 30 + size].endswith(b".npy")

    def open(self, path: Path) -> Checkpoint:
        """The arrays, named by their members without `.npy`; `arr_10` comes after `arr_9`."""
        archive = ZipArchive(path)
        members = {name: member for name, member in archive.members.items() if name.endswith(".npy")}
        arrays, left_out = _members(archive, members)
        if not arrays:
            raise CheckpointError(f"{path}: the archive holds no array of numbers, only {', '.join(left_out[:5])}.")
        others = [name for name in archive.members if name not in members]
        notes = left_out_note(left_out)
        if others:
            notes = (f"{len(others)} members are not arrays and are left out: {', '.join(others[:5])}.", *notes)
        infos = with_roles({name: arrays[name][0] for name in sorted(arrays, key=_automatic_last)})
        return Checkpoint(
            path, self.name, layout_by_names(infos), infos, lambda name: arrays[name][1](), (path,), notes=notes
        )


def _members(archive: ZipArchive, members: Mapping[str, Member]) -> tuple[Arrays, list[str]]:
    """(the arrays of all members, names of what holds no numbers)."""
    begins = archive.beginnings(members.values(), MOST_HEADER_BYTES if len(members) < 100 else 256)
    arrays: Arrays = {}
    left_out: list[str] = []
    for name, member in members.items():
        try:
            own_arrays, inner = _open_member(archive, member, begins[name])
        except NoNumbersError:
            own_arrays, inner = {}, [name.removesuffix(".npy")]
        arrays |= own_arrays
        left_out += inner
    return arrays, left_out


def _automatic_last(name: str) -> tuple[int, int]:
    """Named arrays in the archive's order (sorting is stable), then NumPy's automatic names by their numbers."""
    match = re.fullmatch(r"arr_(\d{1,9})", name)
    return (1, int(match[1])) if match else (0, 0)


def _open_member(archive: ZipArchive, member: Member, begin: bytes) -> tuple[Arrays, list[str]]:
    """(the array of one member, or the arrays of the pickle that it is; names left out)."""
    name = member.name.removesuffix(".npy")
    header = parse_npy_header(begin, path=archive.path, name=member.name)
    if header.dtype == "object":
        pickled = arrays_of_pickled_bytes(archive.path, bytes(archive.read(member)), header.start)
        arrays = {f"{name}.{inner}" if inner else name: entry for inner, entry in pickled.arrays.items()}
        return arrays, [f"{name}.{inner}" for inner in pickled.left_out]
    _checked(archive.path, name, header, member.size)

    def read() -> np.ndarray:
        return _values(memoryview(archive.read(member))[header.start :], header)

    return {name: (_info(header), read)}, []


def _info(header: NpyHeader) -> ArrayInfo:
    note = "two raw bytes each, taken as bfloat16" if header.dtype == "bfloat16" else ""
    return ArrayInfo(header.shape, header.dtype, note=note)


def _checked(path: Path, name: str, header: NpyHeader, size: int) -> int:
    """Bytes of the array's data. Raises CheckpointError when `size` bytes of file are another number."""
    expected = checked_size(header.shape, header.dtype, path=path, name=name)
    if header.start + expected != size:
        raise CheckpointError(
            f"{path}: {name} is {header.dtype} of shape {header.shape}, {expected} bytes, but {size - header.start} "
            "follow its header.\nThe file is truncated or damaged: download it again."
        )
    return expected


def _values(content: bytearray | memoryview, header: NpyHeader) -> np.ndarray:
    if header.is_fortran:
        return decoded_array(content, header.dtype, header.shape[::-1], order=header.order).transpose()
    return decoded_array(content, header.dtype, header.shape, order=header.order)
