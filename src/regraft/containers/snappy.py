"""Snappy's raw format, decompressed: what old writers of TensorFlow tables may have used for their blocks.

Source: "Snappy compressed format description", Google, 2011-10-05.
"""

from regraft.errors import CheckpointError

_MOST_BYTES_PER_BYTE = 32  # a copy of 64 bytes takes at least 2


def decompress_snappy(block: bytes | bytearray | memoryview) -> bytes:
    """The bytes that were compressed. Raises CheckpointError (without a file's name) when the block is damaged."""
    try:
        content = _decompress(bytes(block))
    except IndexError as error:
        raise CheckpointError("a Snappy block ends in the middle of an element") from error
    return content


def _decompress(block: bytes) -> bytes:
    announced, position = _varint(block)
    if announced > _MOST_BYTES_PER_BYTE * len(block):
        raise CheckpointError(f"a Snappy block of {len(block)} bytes claims to hold {announced} bytes")
    out = bytearray()
    while position < len(block):
        tag = block[position]
        position += 1
        if tag & 3 == 0:
            size, position = _literal_size(block, tag >> 2, position)
            if position + size > len(block):
                raise IndexError
            out += block[position : position + size]
            position += size
        else:
            size, distance, position = _copy(block, tag, position)
            if not 0 < distance <= len(out):
                raise CheckpointError("a Snappy block copies from before its beginning")
            start = len(out) - distance
            # A copy may overlap its own output: the source then repeats.
            piece = out[start : start + size]
            out += (piece * (size // len(piece) + 1))[:size]
        if len(out) > announced:
            break
    if len(out) != announced:
        raise CheckpointError(f"a Snappy block announces {announced} bytes and holds {len(out)}")
    return bytes(out)


def _varint(block: bytes) -> tuple[int, int]:
    value = 0
    for position in range(5):
        byte = block[position]
        value |= (byte & 127) << (7 * position)
        if byte < 128:
            return value, position + 1
    raise CheckpointError("a Snappy block announces no size")


def _literal_size(block: bytes, code: int, position: int) -> tuple[int, int]:
    """(size, position after it): up to 60 in the tag itself, else in 1 to 4 bytes."""
    if code < 60:
        return code + 1, position
    width = code - 59
    if position + width > len(block):
        raise IndexError
    return int.from_bytes(block[position : position + width], "little") + 1, position + width


def _copy(block: bytes, tag: int, position: int) -> tuple[int, int, int]:
    """(size, distance back, position after it)."""
    if tag & 3 == 1:
        return ((tag >> 2) & 7) + 4, ((tag >> 5) << 8) | block[position], position + 1
    width = 2 if tag & 3 == 2 else 4
    block[position + width - 1]  # IndexError when the distance is cut off
    return (tag >> 2) + 1, int.from_bytes(block[position : position + width], "little"), position + width
