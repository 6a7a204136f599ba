"""Object headers of HDF5: the messages that describe one group or array.

Source: HDF5 File Format Specification Version 3.0, section IV.A.
"""

from dataclasses import dataclass, field

from regraft.containers.hdf5.file import Hdf5Cursor, Hdf5File

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x08, 0x0B, 0x0C, 0x10, 0x11, 0x15
_SHARED = 2
_COMMITTED = 2


@dataclass(frozen=True)
class Message:
    """One message: its type, its content, and whether the content only says where the real one lies."""

    kind: int
    content: bytes
    is_shared: bool


@dataclass(frozen=True)
class Object:
    """One group or array: its messages, in the file's order."""

    file: Hdf5File = field(repr=False)
    address: int
    messages: tuple[Message, ...]

    def contents(self, kind: int) -> list[Hdf5Cursor]:
        """The messages of that type, those that lie elsewhere included."""
        what = f"message {kind:#x} of the object at {self.address}"
        return [
            unshared(self.file, kind, Hdf5Cursor(self.file, message.content, what))
            if message.is_shared
            else Hdf5Cursor(self.file, message.content, what)
            for message in self.messages
            if message.kind == kind
        ]

    def content(self, kind: int) -> Hdf5Cursor | None:
        """The first message of that type, or None."""
        return next(iter(self.contents(kind)), None)


def read_object(file: Hdf5File, address: int) -> Object:
    """The object whose header lies at the address. Raises CheckpointError when none lies there."""

    def parse() -> Object:
        is_new = file.take(address, 4, "object header") == b"OHDR"
        return Object(file, address, tuple(_new_messages(file, address) if is_new else _old_messages(file, address)))

    header: Object = file.once("object header", address, parse)
    return header


def unshared(file: Hdf5File, kind: int, reference: Hdf5Cursor) -> Hdf5Cursor:
    """The message that a shared one stands for: it lies in another object's header."""
    version, where = reference.number(1), reference.number(1)
    if version == 3 and where != _COMMITTED:
        file.refuse("messages lie in a shared heap")
    if version == 1:
        reference.skip(6)
    elif version not in (2, 3):
        file.damaged(f"a shared message of version {version}")
    owner = read_object(file, reference.address("shared message"))
    own = next((message for message in owner.messages if message.kind == kind and not message.is_shared), None)
    if own is None:
        file.damaged(f"the object at {owner.address} does not hold the message that is shared")
    return Hdf5Cursor(file, own.content, f"shared message {kind:#x}")


def _old_messages(file: Hdf5File, address: int) -> list[Message]:
    """Version 1: blocks without signature, messages at multiples of 8."""
    head = file.cursor(address, 16, "object header")
    if head.number(1) != 1:
        file.damaged(f"no object header at {address}")
    head.skip(1 + 2 + 4)
    messages: list[Message] = []
    blocks = [(address + 16, head.number(4))]
    for start, size in blocks:
        cursor = file.cursor(start, size, "object header")
        while cursor.left >= 8:
            kind, length, flags = cursor.number(2), cursor.number(2), cursor.number(1)
            cursor.skip(3)
            messages.append(Message(kind, cursor.raw(length), bool(flags & _SHARED)))
            cursor.align()
            if kind == CONTINUATION:
                blocks.append(_next_block(file, messages.pop()))
    return messages


def _new_messages(file: Hdf5File, address: int) -> list[Message]:
    """Version 2: blocks with signature and checksum."""
    flags = file.signed(address, 6, b"OHDR", 2).number(1)
    begin = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    first = file.cursor(address + begin, width, "object header").number(width)
    messages: list[Message] = []
    blocks = [(address + begin + width, first)]
    for start, size in blocks:
        cursor = file.cursor(start, size, "object header")
        while cursor.left >= (6 if flags & 4 else 4):  # less is a gap
            kind, length, message_flags = cursor.number(1), cursor.number(2), cursor.number(1)
            cursor.skip(2 if flags & 4 else 0)
            messages.append(Message(kind, cursor.raw(length), bool(message_flags & _SHARED)))
            if kind == CONTINUATION:
                position, length = _next_block(file, messages.pop())
                if file.take(position, 4, "object header") != b"OCHK":
                    file.damaged(f"no continuation of an object header at {position}")
                blocks.append((position + 4, length - 8))
    return messages


def _next_block(file: Hdf5File, message: Message) -> tuple[int, int]:
    """Where a continuation says that the messages go on; that blocks form no ring is seen by the file's own count."""
    cursor = Hdf5Cursor(file, message.content, "continuation")
    return cursor.address("continuation"), cursor.length()
