"""Integers that stand for numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import CheckpointError
from regraft.formats.quantised import Quantisation, unpacked_nibbles


def test_large_integers_lose_nothing_before_the_one_rounding():
    """int32 biases have more digits than a float32."""
    told = Quantisation(np.array([2.0**-20], np.float32), np.array([0]))

    integers = np.array([2**31 - 1, -(2**31)], np.int32)

    np.testing.assert_array_equal(told.values(integers), (integers * 2.0**-20).astype(np.float32))


def test_zero_points_of_each_channel():
    """Along the axis of the scales."""
    told = Quantisation(np.array([1, 2], np.float32), np.array([1, -1]), axis=1)

    np.testing.assert_array_equal(told.values(np.array([[1, 1], [2, 2]], np.int8)), [[0, 4], [1, 6]])


def test_a_minimum_counts_also_when_the_scale_is_zero():
    """An array of one value only."""
    told = Quantisation(np.zeros(1), np.empty(0), minimum=2.5)

    np.testing.assert_array_equal(told.values(np.zeros(3, np.uint8)), [2.5] * 3)


def test_scales_must_fit_the_shape():
    """As many as the axis is long."""
    with pytest.raises(CheckpointError, match=r"3 scales and 0 zero points along axis 0 of the shape \(2,\)"):
        Quantisation(np.ones(3), np.empty(0)).check((2,))


@given(st.lists(st.integers(-8, 7), max_size=9))
def test_half_bytes_come_back(numbers):
    """The lower half first."""
    padded = [*numbers, *([0] * (len(numbers) % 2))]
    content = bytes((low & 15) | (high & 15) << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))

    assert unpacked_nibbles(content, len(numbers)).tolist() == numbers
