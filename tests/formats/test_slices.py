"""Slices of partitioned variables."""

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.slices import joined, placed


def test_absent_lengths_are_whole_axes():
    """−1 is all of the axis."""
    assert placed(((2, 3), (0, -1)), (8, 4)) == ((2, 3), (0, 4))


@pytest.mark.parametrize("extents", [((0, 9),), ((-1, 2),), ((5, 4),), ((0, 2), (0, 2)), ((1, -1),)])
def test_slices_outside_of_the_shape_have_no_place(extents):
    """Too long, negative, of another rank."""
    assert placed(extents, (8,)) is None


def test_slices_are_put_together():
    """Wherever they lie."""
    whole = np.arange(12, dtype=np.float32).reshape(4, 3)

    got = joined((4, 3), "float32", [(((2, 2), (0, 3)), whole[2:]), (((0, 2), (0, 3)), whole[:2])])

    np.testing.assert_array_equal(got, whole, strict=True)


def test_a_gap_is_an_error():
    """Two slices of one place leave another one empty."""
    part = np.zeros(2, np.float32)
    with pytest.raises(CheckpointError, match="overlap and leave gaps"):
        joined((4,), "float32", [(((0, 2),), part), (((0, 2),), part)])
