"""Values inside TensorProtos, against NumPy's own bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import CheckpointError
from regraft.formats.tensor_proto import proto_values, unpacked, varints
from written import field, varint

LISTS = {"float32": 5, "float64": 6, "int32": 7, "uint8": 7, "int8": 7, "int64": 10, "bool": 11, "float16": 13}


def packed(array):
    """The array as TensorFlow's Fill writes it: the list of its own kind."""
    if array.dtype.name in ("float32", "float64"):
        content = array.tobytes()
    else:
        numbers = array.view(np.uint16) if array.dtype == np.float16 else array
        content = b"".join(varint(int(number)) for number in numbers.reshape(-1))
    return field(LISTS[array.dtype.name], content)


@pytest.mark.parametrize("dtype", LISTS)
def test_every_kind_of_list_comes_back(dtype):
    """Negative integers take ten bytes each."""
    array = np.array([[1, 0, 3], [-1, 2, 0]]).astype(dtype)

    got = proto_values(memoryview(packed(array)), dtype, array.shape)

    np.testing.assert_array_equal(got, array, strict=True)
    assert got.flags.writeable


def test_raw_content_comes_back():
    """TensorFlow's other form."""
    array = np.arange(6, dtype=np.float32)

    np.testing.assert_array_equal(
        proto_values(memoryview(field(4, array.tobytes())), "float32", (2, 3)), array.reshape(2, 3)
    )


def test_bfloat16_is_widened():
    """Its bits lie in the list of halves."""
    message = field(13, varint(0x3F80) + varint(0xC000))

    np.testing.assert_array_equal(proto_values(memoryview(message), "bfloat16", (2,)), np.array([1, -2], np.float32))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_packed_numbers_are_unpacked_at_once(numbers):
    """Of one byte to ten."""
    assert unpacked(memoryview(b"".join(map(varint, numbers)))).tolist() == numbers


def test_negative_numbers_of_a_list():
    """Stored as 2⁶⁴ minus them."""
    assert varints(memoryview(varint(-3) + varint(5))) == [-3, 5]
    assert varints(7) == [7]


@pytest.mark.parametrize(
    ("message", "dtype", "told"),
    [
        (field(5, bytes(8)), "float32", "has 2 values, expected 3"),
        (field(5, bytes(9)), "float32", "ends in the middle of one"),
        (field(7, b"\x80"), "int32", "ends in the middle of one"),
        (field(7, b"\xff" * 10 + b"\x01"), "int32", "more than 64 bits"),
        (field(4, bytes(9)), "float32", "has 9 bytes, expected 12"),
        (b"", "float32", "has 0 values, expected 3"),
        (field(8, b"text"), "string", "has 0 values"),
    ],
)
def test_another_number_of_values_is_refused(message, dtype, told):
    """Nothing is filled up."""
    with pytest.raises(CheckpointError, match=told):
        proto_values(memoryview(message), dtype, (3,))
