"""Snappy's format, against blocks written by its description."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.containers.snappy import decompress_snappy
from regraft.errors import CheckpointError
from snap import literals
from tables import varint


@given(st.binary(max_size=70_000))
def test_literals_come_back(content):
    """Of any length: 60, 2⁸ and 2¹⁶ are the borders of their sizes."""
    assert decompress_snappy(literals(content)) == content


@pytest.mark.parametrize("distance", [5, 0])
def test_a_copy_from_before_the_beginning_is_refused(distance):
    """A distance beyond what was written, or none."""
    with pytest.raises(CheckpointError, match="before its beginning"):
        decompress_snappy(varint(8) + b"\x0cabcd" + bytes([1, distance]))


@pytest.mark.parametrize(
    "copy",
    [
        bytes([(8 - 4) << 2 | 1, 2]),  # one byte of distance
        bytes([(8 - 1) << 2 | 2, 2, 0]),  # two
        bytes([(8 - 1) << 2 | 3, 2, 0, 0, 0]),  # four
    ],
)
def test_a_copy_may_overlap_what_it_writes(copy):
    """Two bytes are repeated four times, in each of the three forms."""
    assert decompress_snappy(varint(12) + b"\x0cabcd" + copy) == b"abcd" + b"cd" * 4


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (b"", "middle of an element"),
        (b"\x80\x80\x80\x80\x80\x01", "announces no size"),
        (varint(1 << 40)[:5] + b"\x00a", "announces no size|claims to hold"),
        (varint(5000) + b"\x00a", "claims to hold 5000 bytes"),
        (varint(3) + b"\x08ab", "middle of an element"),
        (varint(9) + b"\x08abc", "announces 9 bytes and holds 3"),
        (varint(2) + b"\x08abc", "announces 2 bytes and holds 3"),
        (varint(8) + b"\x0cabcd\x0e\x02", "middle of an element"),
    ],
)
def test_damaged_blocks_are_refused(block, told):
    """Nothing is allocated for a size that cannot be."""
    with pytest.raises(CheckpointError, match=told):
        decompress_snappy(block)
