"""A Snappy writer that only writes literals, which every reader must take."""

from tables import varint


def literals(content: bytes) -> bytes:
    """The content as literals of at most 65,536 bytes each."""
    out = varint(len(content))
    for start in range(0, len(content), 65536):
        piece = content[start : start + 65536]
        size = len(piece) - 1
        head = bytes([size << 2]) if size < 60 else b""
        if not head:
            width = 1 if size < 256 else 2
            head = bytes([59 + width << 2]) + size.to_bytes(width, "little")
        out += head + piece
    return out
