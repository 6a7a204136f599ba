"""CRC-32C: the known sums, and the lanes against the plain loop."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.containers.crc32c import crc32c, masked_crc32c


def plain(data):
    """Bit by bit, as the polynomial is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_the_sums_of_rfc_3720(data, expected):
    """Appendix B.4."""
    assert crc32c(data) == expected


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_short_data_has_the_sum_of_the_plain_loop(data):
    """Below the lanes."""
    assert crc32c(data) == plain(data)


@pytest.mark.parametrize("size", [32 * 1024, 32 * 1024 + 1, 65537, 100_003])
def test_long_data_has_the_sum_of_the_plain_loop(size):
    """Lanes, their joining, and the rest that fills no lane."""
    data = bytes(index * index % 251 for index in range(size))

    assert crc32c(data) == plain(data)


def test_the_mask_is_that_of_leveldb():
    """crc32c.h: rotate right by 15 bits and add a constant."""
    crc = crc32c(b"foo")

    assert masked_crc32c(b"foo") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != crc
