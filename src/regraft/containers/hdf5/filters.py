"""The filters that HDF5 puts a chunk through, undone: gzip, shuffle and the Fletcher checksum.

Source: HDF5 File Format Specification Version 3.0, section IV.A.2.l. What a chunk unpacks to is bounded beforehand.
"""

import zlib
from dataclasses import dataclass

import numpy as np

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File

_DEFLATE, _SHUFFLE, _FLETCHER = 1, 2, 3
_NAMES = {4: "szip", 5: "nbit", 6: "scale-offset", 307: "bzip2", 32000: "lzf", 32001: "blosc", 32015: "zstd"}


@dataclass(frozen=True)
class Filter:
    """One filter: its number, and its first parameter (the size of an element, for shuffle)."""

    number: int
    parameter: int


def read_filters(cursor: Hdf5Cursor) -> tuple[Filter, ...]:
    """The filters that a message lists, in the order of writing. Raises CheckpointError for one that is not read."""
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2):
        cursor.file.damaged(f"filters of version {version}")
    cursor.skip(6 if version == 1 else 0)
    filters = tuple(_filter(cursor, is_old=version == 1) for _ in range(count))
    for step in filters:
        if step.number not in (_DEFLATE, _SHUFFLE, _FLETCHER):
            cursor.file.refuse(f"an array is packed with {_NAMES.get(step.number, f'the filter {step.number}')}")
    return filters


def _filter(cursor: Hdf5Cursor, *, is_old: bool) -> Filter:
    """One filter. Old messages always have a name, and pad name and parameters to a multiple of 8."""
    number = cursor.number(2)
    name_size = cursor.number(2) if is_old or number >= 256 else 0
    cursor.skip(2)
    count = cursor.number(2)
    cursor.skip(name_size + (-name_size % 8 if is_old else 0))
    values = [cursor.number(4) for _ in range(count)]
    cursor.skip(4 * (count % 2) if is_old else 0)
    return Filter(number, values[0] if values else 0)


def unfiltered(file: Hdf5File, stored: bytes, filters: tuple[Filter, ...], skipped: int, size: int) -> bytes:
    """The chunk's `size` bytes.

    skipped  a bit for each filter that this chunk did without
    """
    content = stored
    for index, step in reversed(list(enumerate(filters))):
        if skipped >> index & 1:
            continue
        if step.number == _DEFLATE:
            content = _inflated(file, content, size + 4 * len(filters))
        elif step.number == _FLETCHER:
            content = _without_checksum(file, content)
        else:
            content = _unshuffled(content, step.parameter)
    if len(content) != size:
        file.damaged(f"a chunk has {len(content)} bytes and should have {size}")
    return content


def _inflated(file: Hdf5File, content: bytes, most: int) -> bytes:
    """At most so many bytes, whatever the stream would give."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(content, most + 1)
    except zlib.error as error:
        file.damaged(f"a chunk is no gzip stream ({error})")
    if len(inflated) > most or not stream.eof:
        file.damaged(f"a chunk does not unpack to {most} bytes or less")
    return inflated


def _unshuffled(content: bytes, element: int) -> bytes:
    """Shuffle stores all first bytes, then all second ones …; a rest that fills no element stays behind."""
    if element < 2:
        return content
    whole = len(content) // element * element
    planes = np.frombuffer(content, np.uint8, whole).reshape(element, -1)
    return planes.T.tobytes() + content[whole:]


def _without_checksum(file: Hdf5File, content: bytes) -> bytes:
    """The content without its last four bytes, which are Fletcher's sums over it, two bytes at a time."""
    if len(content) < 4:
        file.damaged("a chunk is shorter than its checksum")
    body, stored = content[:-4], int.from_bytes(content[-4:], "little")
    words = np.frombuffer(body + b"\0" * (len(body) % 2), ">u2").astype(np.uint64)
    first = second = 0
    for start in range(0, len(words), 1 << 16):  # pieces: the weighted sum of 65536 words fits 64 bits
        part = words[start : start + (1 << 16)]
        weights = np.arange(len(part), 0, -1, dtype=np.uint64)
        second = (second + len(part) * first + int((part * weights).sum())) % 65535
        first = (first + int(part.sum())) % 65535
    if (stored & 0xFFFF) % 65535 != first or (stored >> 16) % 65535 != second:
        file.damaged("a chunk's checksum is wrong")
    return body
