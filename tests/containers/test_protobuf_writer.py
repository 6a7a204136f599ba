"""Protocol buffers, written and read again."""

from regraft.containers.protobuf import fields, grouped, read_varint
from regraft.containers.protobuf_writer import fixed32_field, message_field, number_field, text_of, varint


def test_numbers_are_read_as_they_were_written():
    """Of each length; negative ones as 64 bits."""
    for number in (0, 1, 127, 128, 300, 2**32, 2**63):
        assert read_varint(varint(number), 0) == (number, len(varint(number)))
    assert read_varint(varint(-1), 0)[0] == 2**64 - 1


def test_fields_are_read_as_they_were_written():
    """Zeros are the default, and left out."""
    message = number_field(1, 7) + message_field(2, b"ab") + fixed32_field(6, 0xDEADBEEF)
    values = grouped(memoryview(message))
    assert values[1] == [7]
    assert bytes(values[2][0]) == b"ab"
    assert values[6] == [0xDEADBEEF]
    assert not list(fields(memoryview(number_field(1, 0) + fixed32_field(2, 0))))


def test_texts_between_quotes():
    """As the file `checkpoint` has them."""
    assert text_of('a"b\\c\n') == 'a\\"b\\\\c\\n'
