"""Protocol buffers' wire format, written: the fields that TensorFlow's files need."""

from struct import pack


def varint(number: int) -> bytes:
    """A variable-length integer; negative ones as their 64 bits."""
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def number_field(field: int, number: int) -> bytes:
    """An integer; nothing for zero, which is the default."""
    return varint(field << 3) + varint(number) if number else b""


def fixed32_field(field: int, number: int) -> bytes:
    """Four bytes; nothing for zero."""
    return varint(field << 3 | 5) + pack("<I", number) if number else b""


def message_field(field: int, content: bytes) -> bytes:
    """A message, a text or bytes with its length."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text_of(text: str) -> str:
    """A text as protocol buffers' text format has it between quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
