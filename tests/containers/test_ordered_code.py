"""TensorFlow's ordered code: the bytes of its own tests, and that it keeps order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.containers.ordered_code import slice_key


def signed(number):
    """The bytes of one signed number: what a key of one axis has behind name, count and start 0."""
    return slice_key("", [(0, number)])[len(slice_key("", [(0, 0)])) - 1 :]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, "80"), (1, "81"), (63, "bf"), (64, "c040"), (8191, "dfff"), (8192, "e02000"), (-1, "7f"), (-64, "40"),
        (-65, "3fbf"), (1 << 62, "ffc04000000000000000"),
    ],
)  # fmt: skip
def test_signed_numbers_have_the_bytes_of_tensorflow(number, code):
    """ordered_code_test.cc."""
    assert signed(number).hex() == code


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_codes_sort_as_their_numbers(one, two):
    """That is what the code is for."""
    assert (signed(one) < signed(two)) == (one < two)


@given(st.text(max_size=5), st.text(max_size=5))
def test_names_sort_as_their_bytes(one, two):
    """Also with zero bytes inside, which end a name."""
    assert (slice_key(one, []) < slice_key(two, [])) == (one.encode() < two.encode())


def test_a_whole_axis_is_zero_and_minus_one():
    """As the index writes it."""
    assert slice_key("w", [(0, -1)]).hex() == "00" + "770001" + "0101" + "807f"
