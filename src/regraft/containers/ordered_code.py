"""TensorFlow's order-preserving code: the keys under which slices of variables are stored.

Source: tensorflow/core/lib/strings/ordered_code.h and tensorflow/core/util/saved_tensor_slice_util.cc.
"""

from collections.abc import Sequence


def slice_key(name: str, extents: Sequence[tuple[int, int]]) -> bytes:
    """The key of one slice of the variable `name`.

    extents   for each axis (start, length); (0, -1) is the whole axis
    """
    parts = [_number(0), _text(name.encode()), _number(len(extents))]
    for start, length in extents:
        parts += [_signed(start), _signed(length)]
    return b"".join(parts)


def _text(content: bytes) -> bytes:
    """Bytes that sort as they are, ended by 00 01."""
    escaped = content.replace(b"\xff", b"\xff\x01").replace(b"\x00", b"\x00\xff").replace(b"\xff\x01", b"\xff\x00")
    return escaped + b"\x00\x01"


def _number(value: int) -> bytes:
    """A number ≥ 0: its count of bytes, then the bytes, high first."""
    width = (value.bit_length() + 7) // 8
    return bytes([width]) + value.to_bytes(width, "big")


def _signed(value: int) -> bytes:
    """A signed number: as many leading ones as it takes bytes, then its bits; negative numbers inverted."""
    bits = (~value if value < 0 else value).bit_length()
    width = bits // 7 + 1
    content = (
        bytearray(value.to_bytes(width, "big", signed=True))
        if width <= 8
        else bytearray(value.to_bytes(10, "big", signed=True)[-width:])
    )
    header = ((1 << width) - 1) << (16 - width)
    content[0] ^= header >> 8
    if width > 1:
        content[1] ^= header & 0xFF
    return bytes(content)
