"""CRC-32C (Castagnoli) with NumPy alone, fast enough to check every array as it is read.

A byte-by-byte loop in Python does about 10 MB/s. Here the data is cut into many equal lanes that advance together, two
bytes a step by a table of 65,536 entries, and the lanes' sums are then joined: a CRC is linear, so the sum of a‖b is
the sum of a moved on by len(b) zero bytes, xor the sum of b.
"""

from functools import lru_cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANES = 2048
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The sum as TensorFlow and LevelDB store it: rotated and shifted, so that sums of sums stay good."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C of the bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    content = np.frombuffer(data, np.uint8)
    crc = 0xFFFFFFFF
    lane_bytes = len(content) // _LANES // 2 * 2
    if lane_bytes >= 16:
        bulk = lane_bytes * _LANES
        crc = _sum_of_lanes(content[:bulk].reshape(_LANES, lane_bytes), crc)
        content = content[bulk:]
    table = _byte_table()
    for byte in content.tobytes():
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _sum_of_lanes(lanes: np.ndarray, crc: int) -> int:
    """The running sum after all lanes, one after the other.  lanes (count, bytes) uint8, count a power of two."""
    # One column holds the next two bytes of all lanes; contiguous columns keep the memory's reads in order.
    columns = np.ascontiguousarray(lanes.view("<u2").T)
    sums = np.zeros(len(lanes), np.uint32)
    sums[0] = crc
    table = _pair_table()
    for column in columns:
        sums = (sums >> np.uint32(16)) ^ table[(sums & np.uint32(0xFFFF)) ^ column]
    length = lanes.shape[1]
    while len(sums) > 1:
        sums = _moved_on(sums[0::2], length) ^ sums[1::2]
        length *= 2
    return int(sums[0])


def _moved_on(sums: np.ndarray, zero_bytes: int) -> np.ndarray:
    """Each sum after `zero_bytes` further zero bytes: one 32×32 bit matrix, applied to all."""
    matrix = _zeros_matrix(zero_bytes)
    moved = np.zeros_like(sums)
    for bit in range(32):
        moved ^= np.where((sums >> np.uint32(bit)) & np.uint32(1), matrix[bit], np.uint32(0))
    return moved


@lru_cache(maxsize=256)
def _zeros_matrix(zero_bytes: int) -> np.ndarray:
    """(32,) uint32: what each single bit of a sum becomes after `zero_bytes` zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    table = np.array(_byte_table(), np.uint32)
    if zero_bytes == 1:
        moved: np.ndarray = table[bits & np.uint32(0xFF)] ^ (bits >> np.uint32(8))
        return moved
    half = _moved_on(bits, zero_bytes // 2)
    both = _moved_on(half, zero_bytes // 2)
    return _moved_on(both, 1) if zero_bytes % 2 else both


@lru_cache(maxsize=1)
def _byte_table() -> list[int]:
    """What each byte adds to the sum."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


@lru_cache(maxsize=1)
def _pair_table() -> np.ndarray:
    """(65536,) uint32: what each two bytes, low byte first, add to the sum."""
    table = np.array(_byte_table(), np.uint32)
    pairs = np.arange(65536, dtype=np.uint32)
    first = table[pairs & 0xFF] ^ (pairs >> 8)
    both: np.ndarray = table[first & 0xFF] ^ (first >> 8)
    return both
