"""The members of a ZIP file as spans of it: the ground under the readers of torch and NumPy archives.

Own, because zipfile takes 0.3 s for a directory of 10,000 members and tells no offsets. Stored and deflated members;
sizes are checked against the file before anything is allocated.
Source: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3 and 4.5.3.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from struct import iter_unpack, unpack_from
from typing import final

from regraft.containers.spans import Span
from regraft.errors import CheckpointError

_MOST_BYTES_PER_BYTE = 1032  # what deflate can reach at most
_LOCAL_BYTES = 30
_U32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive.

    header   offset of its local header; the content follows after a name and an extra field of unknown length
    stored   bytes in the archive; `size` bytes once inflated
    """

    name: str
    header: int
    stored: int
    size: int
    is_deflated: bool
    crc: int


@final
class ZipArchive:
    """The directory of a ZIP file: `members` by name, in the directory's order.

    whole   where the archive lies, when it is only a part of the file

    Raises CheckpointError when there is no directory, or a member lies outside the file, is encrypted, of an unknown
    compression, named twice, or claims more than can be inflated from it.
    """

    def __init__(self, path: Path, whole: Span | None = None) -> None:
        self.path = path
        self._whole = whole or Span(path, 0, path.stat().st_size)
        offset, size, count = _directory(self._whole)
        directory = Span(path, offset, size).read()
        self.members: dict[str, Member] = {}
        position = 0
        try:
            for _ in range(count):
                member, position = _member(directory, position, self._whole.offset)
                if member.name in self.members:
                    raise CheckpointError(f"{path}: refused, {member.name!r} is in the archive twice.")
                self._check(member)
                self.members[member.name] = member
        except StructError as error:
            raise CheckpointError(f"{path}: the archive's directory is damaged. Download the file again.") from error

    def span(self, member: Member) -> Span:
        """Where the member's bytes lie, deflated or not."""
        local = Span(self.path, member.header, _LOCAL_BYTES).read()
        if local[:4] != b"PK\x03\x04":
            raise self._misplaced(member)
        name_size, extra_size = unpack_from("<HH", local, 26)
        return Span(self.path, member.header + _LOCAL_BYTES + name_size + extra_size, member.stored)

    def read(self, member: Member) -> bytearray:
        """The member's content, inflated, its checksum checked."""
        content = self.span(member).read()
        if member.is_deflated:
            content = _inflated(self.path, member, content)
        if zlib.crc32(content) != member.crc:
            raise CheckpointError(
                f"{self.path}: the checksum of {member.name} is wrong. The file has changed since it was written, "
                "or is damaged: download it again."
            )
        return content

    def beginnings(self, members: Iterable[Member], size: int) -> dict[str, bytes]:
        """At most the first `size` bytes of each member's content, unchecked: enough for a header.

        One open file and one read for each member, since an archive may have ten thousand.
        """
        contents = {}
        with self.path.open("rb", buffering=0) as file:
            for member in members:
                file.seek(member.header)
                raw = file.read(_LOCAL_BYTES + len(member.name.encode()) + 64 + min(size, member.stored)) or b""
                if raw[:4] != b"PK\x03\x04" or len(raw) < _LOCAL_BYTES:
                    raise self._misplaced(member)
                name_size, extra_size = unpack_from("<HH", raw, 26)
                start = _LOCAL_BYTES + name_size + extra_size
                content = raw[start : start + min(size, member.stored)]
                contents[member.name] = _first(self.path, member, content, size) if member.is_deflated else content
        return contents

    def _misplaced(self, member: Member) -> CheckpointError:
        return CheckpointError(f"{self.path}: {member.name} is not where the archive's directory says. It is damaged.")

    def _check(self, member: Member) -> None:
        if member.header + _LOCAL_BYTES + member.stored > self._whole.offset + self._whole.size:
            raise CheckpointError(f"{self.path}: {member.name} reaches beyond the end of the file. It is truncated.")
        limit = member.stored * _MOST_BYTES_PER_BYTE if member.is_deflated else member.stored
        if member.size > limit or (not member.is_deflated and member.size != member.stored):
            raise CheckpointError(
                f"{self.path}: {member.name} claims {member.size} bytes from {member.stored} stored ones. Refused."
            )


def may_hold(path: Path, names: Iterable[str]) -> bool:
    """Whether the archive's directory has these names somewhere: a look that is quick for ten thousand members.

    False for what is no archive; true says only that it is worth a ZipArchive to know.
    """
    try:
        offset, size, _ = _directory(Span(path, 0, path.stat().st_size))
        directory = Span(path, offset, size).read()
    except (CheckpointError, OSError):
        return False
    return all(name.encode() in directory for name in names)


def _directory(whole: Span) -> tuple[int, int, int]:
    """(offset in the file, size in bytes, members) of the directory, from the record at the archive's end."""
    path, tail_size = whole.path, min(whole.size, 65536 + 22)
    tail = Span(path, whole.offset + whole.size - tail_size, tail_size).read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or position + 22 > len(tail):
        raise CheckpointError(f"{path}: the archive has no directory at its end. It is truncated: download it again.")
    count, size, offset = unpack_from("<HII", tail, position + 10)
    if (
        (count == 0xFFFF or _U32 in (size, offset))
        and position >= 20
        and tail[position - 20 : position - 16] == b"PK\x06\x07"
    ):
        (record,) = unpack_from("<Q", tail, position - 12)
        zip64 = Span(path, whole.offset + record, 56).read()
        if zip64[:4] != b"PK\x06\x06":
            raise CheckpointError(f"{path}: the archive's directory is damaged. Download the file again.")
        count, size, offset = unpack_from("<QQQ", zip64, 32)
    if offset + size > whole.size or count * 46 > size:
        raise CheckpointError(f"{path}: the archive's directory is damaged or truncated. Download the file again.")
    return whole.offset + offset, size, count


def _member(directory: bytearray, position: int, begin: int) -> tuple[Member, int]:
    """(the directory's entry at `position`, the position after it).  begin  of the archive in the file"""
    signature, flags, method, crc, stored, size, name_size, extra_size, comment_size, header = unpack_from(
        "<4s4xHH4xIIIHHH8xI", directory, position
    )
    name_at = position + 46
    name = directory[name_at : name_at + name_size].decode("utf-8", "backslashreplace")
    if signature != b"PK\x01\x02" or flags & 1 or method not in (0, 8):
        what = "is encrypted" if flags & 1 else f"has the unknown compression {method}"
        raise StructError(f"{name} {what}")
    extra_at = name_at + name_size
    if _U32 in (size, stored, header):
        wide = _wide_fields(directory[extra_at : extra_at + extra_size])
        size, stored, header = (wide.pop(0) if value == _U32 and wide else value for value in (size, stored, header))
    return Member(name, begin + header, stored, size, method == 8, crc), extra_at + extra_size + comment_size


def _wide_fields(extra: bytearray) -> list[int]:
    """The 64-bit numbers of a ZIP64 extra field, in the order size, stored size, offset."""
    position = 0
    while position + 4 <= len(extra):
        kind, size = unpack_from("<HH", extra, position)
        if kind == 1:
            content = extra[position + 4 : position + 4 + size]
            return [value for (value,) in iter_unpack("<Q", content[: len(content) // 8 * 8])]
        position += 4 + size
    return []


def _first(path: Path, member: Member, content: bytes, size: int) -> bytes:
    """At most the first `size` bytes that `content` inflates to."""
    try:
        return zlib.decompressobj(-15).decompress(content, size)
    except zlib.error as error:
        raise CheckpointError(f"{path}: {member.name} cannot be inflated: {error}. It is damaged.") from error


def _inflated(path: Path, member: Member, content: bytearray) -> bytearray:
    """Exactly `member.size` bytes; never more, however much the content would give."""
    inflater = zlib.decompressobj(-15)
    try:
        inflated = bytearray(inflater.decompress(content, member.size)) if member.size else bytearray()
    except zlib.error as error:
        raise CheckpointError(f"{path}: {member.name} cannot be inflated: {error}. It is damaged.") from error
    if len(inflated) != member.size:
        raise CheckpointError(f"{path}: {member.name} holds {len(inflated)} bytes, announced were {member.size}.")
    return inflated
