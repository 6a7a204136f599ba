"""Protocol buffers: fields, and messages read where they lie in the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.containers.protobuf import (
    BYTES,
    VARINT,
    ProtobufFile,
    field_bytes,
    field_int,
    field_text,
    fields,
    looks_like,
    read_varint,
    signed,
)
from regraft.errors import CheckpointError
from written import field, varint
from written import fields as message_of


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
        field_int(memoryview(b"a"))
    with pytest.raises(CheckpointError, match="number where bytes"):
        field_bytes(1)


def test_text_that_is_no_utf8_stays_readable():
    """Names are never lost."""
    assert field_text(memoryview(b"a\xff")) == "a\\xff"


def opened(folder, content):
    (folder / "m.pb").write_bytes(content)
    return ProtobufFile(folder / "m.pb")


def test_fields_and_their_places_are_found(tmp_path):
    """A nested message's bytes have an offset in the file."""
    file = opened(tmp_path, message_of((1, 300), (2, field(7, b"abcd")), (3, "text"), (3, "last"), (4, 0.001), (5, -2)))

    message = file.message(file.whole)

    inner = file.message(message[2][0])
    span = file.span(inner[7][0])
    assert span.read() == b"abcd"
    assert (tmp_path / "m.pb").read_bytes()[span.offset : span.offset + span.size] == b"abcd"
    assert file.integer(message[1]) == 300
    assert file.integer(message[5]) == -2
    assert (file.text(message[3]), file.texts(message[3])) == ("last", ["text", "last"])
    assert file.floats(message[4]) == [0.001]
    assert message[99] == []


def test_repeated_numbers_are_read_packed_or_not(tmp_path):
    """Writers of different ages mix both."""
    file = opened(tmp_path, message_of((1, 5), (1, varint(-1) + varint(700)), (1, 6)))

    assert file.integers(file.message(file.whole)[1]) == [5, -1, 700, 6]


@pytest.mark.parametrize(
    "content", [b"\x0a\x05ab", b"\x0b", b"\x08" + b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f", b"\x0d\x00"]
)
def test_what_is_no_message_is_refused_by_the_file_s_name(tmp_path, content):
    """Lengths beyond the end, groups, numbers of eleven bytes."""
    file = opened(tmp_path, content)

    with pytest.raises(CheckpointError, match=r"m\.pb: "):
        file.message(file.whole)


@pytest.mark.parametrize(("ask", "value"), [("text", 3), ("integer", b"ab"), ("integers", b"\xff")])
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, ask, value):
    """A number where a text should be, and the other way round."""
    file = opened(tmp_path, field(1, value))

    with pytest.raises(CheckpointError, match=r"m\.pb: "):
        getattr(file, ask)(file.message(file.whole)[1])


def test_floats_that_are_cut_are_refused(tmp_path):
    """Three bytes are no float."""
    file = opened(tmp_path, field(1, b"abc"))

    with pytest.raises(CheckpointError, match="3 bytes of float32"):
        file.floats(file.message(file.whole)[1])


def test_an_empty_file_is_an_empty_message(tmp_path):
    """And has no bytes to map."""
    file = opened(tmp_path, b"")

    assert file.message(file.whole) == {}
    assert file.span(memoryview(b"")).size == 0


def test_a_head_is_judged_by_its_first_fields():
    """As far as it goes; a field that is not allowed spoils it."""
    content = message_of((1, 7), (2, "long text"))

    assert looks_like(content[:6], {1: VARINT, 2: BYTES}) == [(1, b"\x07"), (2, b"lo")]
    assert looks_like(content, {1: VARINT}) == []
    assert looks_like(b"\x80", {1: VARINT}) == []
