"""The bytes of an HDF5 file and its superblock: every access is checked against the file's end, and all are counted.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", section II. Own reader, since the C library loops
for ever on some damaged files.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from regraft.containers.spans import Span, mapped
from regraft.errors import CheckpointError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A whole file is looked at about twice; structures that overlap, as in a forged file, come to more.
_MOST_LOOKS_AT_A_BYTE = 16
_FREE_BYTES = 1 << 20


class Hdf5File:
    """One HDF5 file that lies in a part of a file. Addresses count from its superblock on.

    offset_size, length_size  bytes of an address and of a length, as the superblock tells
    root                      address of the root group's object header
    memory                    what was parsed once, by kind and address
    """

    def __init__(self, span: Span) -> None:
        self.path, self.size = span.path, span.size
        self._content, self._start = mapped(span.path), span.offset
        self._left = _MOST_LOOKS_AT_A_BYTE * span.size + _FREE_BYTES
        self.memory: dict[tuple[str, int], Any] = {}
        self.offset_size = self.length_size = 8
        if span.offset + span.size > len(self._content):
            self.damaged("it ends before its end")
        self._skip_user_block()
        self.root = self._superblock()

    @property
    def position(self) -> int:
        """Where address 0 lies in the file on the disk."""
        return self._start

    def damaged(self, what: str) -> NoReturn:
        """Raises CheckpointError."""
        raise CheckpointError(f"{self.path}: the HDF5 file is damaged or cut short: {what}. Download it again.")

    def refuse(self, what: str) -> NoReturn:
        """Raises CheckpointError for what is in order but not read."""
        raise CheckpointError(
            f"{self.path}: refused, {what}. Write it plainly: h5repack --filter=NONE --layout=CONTI in.h5 out.h5"
        )

    def check(self, address: int, size: int, what: str) -> None:
        """Raises CheckpointError unless `size` bytes from `address` on lie in the file."""
        if address < 0 or size < 0 or address + size > self.size:
            self.damaged(f"{what} of {size} bytes at {address} reaches beyond the end at {self.size}")

    def take(self, address: int, size: int, what: str) -> bytes:
        """The bytes at an address. Raises CheckpointError beyond the end, or when the file is read again and again."""
        self.check(address, size, what)
        self.spend(size + 8)
        return self._content[self._start + address : self._start + address + size]

    def spend(self, size: int) -> None:
        """Count work in bytes looked at. Raises CheckpointError when it comes to many times the file's size."""
        self._left -= size
        if self._left < 0:
            self.damaged("its structures overlap, or contain themselves")

    def cursor(self, address: int, size: int, what: str) -> "Hdf5Cursor":
        """A cursor over the bytes at an address."""
        return Hdf5Cursor(self, self.take(address, size, what), what)

    def signed(self, address: int, size: int, signature: bytes, version: int) -> "Hdf5Cursor":
        """A cursor behind the signature and the version of a structure that has both."""
        cursor = self.cursor(address, size, signature.decode())
        if cursor.raw(4) != signature or cursor.number(1) != version:
            self.damaged(f"no {signature.decode()} of version {version} at {address}")
        return cursor

    def once(self, kind: str, address: int, parse: Callable[[], object]) -> Any:
        """What `parse` gives for this address, parsed once. Raises CheckpointError where a structure holds itself."""
        key = (kind, address)
        if key not in self.memory:
            self.memory[key] = None
            self.memory[key] = parse()
        if self.memory[key] is None:
            self.damaged(f"the {kind} at {address} contains itself")
        return self.memory[key]

    def _skip_user_block(self) -> None:
        """The superblock lies at 0, 512, 1024 … ."""
        offset = 0
        while self._content[self._start + offset : self._start + offset + 8] != SIGNATURE:
            offset = offset * 2 or 512
            if offset + 8 > self.size:
                self.damaged("it has no signature")
        self._start, self.size = self._start + offset, self.size - offset

    def _superblock(self) -> int:
        """The root's address; sizes of addresses and lengths are set."""
        version = self.take(8, 1, "superblock")[0]
        if version > 3:
            self.refuse(f"a superblock of version {version} is unknown")
        sizes = self.take(13 if version < 2 else 9, 2, "superblock")
        self.offset_size, self.length_size = sizes
        if not {*sizes} <= {2, 4, 8}:
            self.damaged(f"addresses of {sizes[0]} bytes")
        begin = {0: 24, 1: 28}.get(version, 12)
        cursor = self.cursor(begin, (4 if version >= 2 else 6) * self.offset_size, "superblock")
        base, _, end = cursor.offset() or 0, cursor.offset(), cursor.offset() or 0
        if end - base > self.size:
            self.damaged(f"it should have {end - base} bytes and has {self.size}")
        if version < 2:
            cursor.skip(2 * self.offset_size)  # the driver's block, and the root's name
        return cursor.address("root group")


class Hdf5Cursor:
    """Little-endian numbers one after the other. Beyond the end it raises CheckpointError."""

    def __init__(self, file: Hdf5File, content: bytes, what: str) -> None:
        self.file, self.content, self.what, self.position = file, content, what, 0

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self.content) - self.position

    def raw(self, size: int) -> bytes:
        """The next bytes."""
        if size < 0 or size > self.left:
            self.file.damaged(f"{self.what} needs {size} bytes and has {self.left} left")
        self.position += size
        return self.content[self.position - size : self.position]

    def skip(self, size: int) -> None:
        """Goes on without looking."""
        self.raw(size)

    def align(self, size: int = 8) -> None:
        """Goes on to the next multiple of `size`; at the end it stays."""
        self.position = min(len(self.content), -(-self.position // size) * size)

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.raw(size), "little")

    def length(self) -> int:
        """A length."""
        return self.number(self.file.length_size)

    def offset(self) -> int | None:
        """An address; None where it is undefined."""
        raw = self.raw(self.file.offset_size)
        return None if raw == b"\xff" * len(raw) else int.from_bytes(raw, "little")

    def address(self, what: str) -> int:
        """An address that must be there."""
        address = self.offset()
        if address is None:
            self.file.damaged(f"{what} has no address")
        return address

    def text(self) -> str:
        """Up to the next zero byte, which is skipped."""
        end = self.content.find(b"\0", self.position)
        if end < 0:
            self.file.damaged(f"{self.what} has a name without an end")
        text = self.content[self.position : end].decode("utf-8", errors="replace")
        self.position = end + 1
        return text
