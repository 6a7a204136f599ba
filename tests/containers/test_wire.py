"""Protocol buffers, field by field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.containers.wire import as_bytes, as_int, as_text, fields, read_varint, signed
from regraft.errors import CheckpointError
from tables import field, varint


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**29 - 1))
def test_a_number_comes_back(number, place):
    """Any field number, any 64 bits."""
    assert list(fields(field(place, number))) == [(place, number)]


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_byte_fields_come_back_in_order(contents):
    """Repeated fields too."""
    message = b"".join(field(3, content) for content in contents)

    assert [bytes(value) for _, value in fields(message)] == contents


def test_fixed_fields_are_numbers():
    """4 and 8 bytes, low byte first."""
    assert list(fields(b"\x0d\x01\x02\x00\x00\x11\x00\x00\x00\x00\x00\x00\x00\x80")) == [(1, 513), (2, 1 << 63)]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (b"\x08", "ends in the middle of a field"),
        (b"\x08\x80", "ends in the middle of a number"),
        (b"\x12\x05abc", "ends in the middle of a field"),
        (b"\x0d\x01", "ends in the middle of a field"),
        (b"\x0b", "unknown kind 3"),
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
    ],
)
def test_damaged_messages_are_refused(message, told):
    """With what is wrong."""
    with pytest.raises(CheckpointError, match=told):
        list(fields(message))


@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_numbers_come_back(number):
    """Negative ones take ten bytes."""
    assert signed(read_varint(varint(number), 0)[0]) == number


def test_a_field_of_the_other_kind_is_refused():
    """Bytes are no number, a number is no bytes."""
    with pytest.raises(CheckpointError, match="bytes where a number"):
        as_int(memoryview(b"a"))
    with pytest.raises(CheckpointError, match="number where bytes"):
        as_bytes(1)


def test_text_that_is_no_utf8_stays_readable():
    """Names are never lost."""
    assert as_text(memoryview(b"a\xff")) == "a\\xff"
