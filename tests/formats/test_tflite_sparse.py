"""Sparse tensors: stored values and their places, against arrays that are written out."""

import numpy as np
import pytest

from flat import flat
from regraft.containers.flatbuffer import root_table
from regraft.errors import CheckpointError
from regraft.formats.tflite_sparse import sparsity_of


def sparsity(levels, order, blocks=(), rank=2):
    """What a file says.  levels  a size, or (size, segments, indices)"""
    tables = []
    for level in levels:
        size, segments, indices = level if isinstance(level, tuple) else (level, None, None)
        if segments is None:
            tables.append({1: ("i", size)})
        else:
            vectors = [{0: np.array(segments, "<i4")}, {0: np.array(indices, "u1")}]
            tables.append({0: ("b", 1), 1: ("i", size), 2: ("B", 1), 3: vectors[0], 4: ("B", 3), 5: vectors[1]})
    content = {0: np.array(order, "<i4"), 1: np.array(blocks, "<i4"), 2: tables}
    return sparsity_of(root_table(flat(content, b"TFL3")), rank)


def test_rows_of_stored_columns_are_a_matrix():
    """The usual form: all rows, of each the columns that are not zero; the second row is empty."""
    rows = sparsity([3, (4, [0, 2, 2, 3], [0, 3, 1])], (0, 1))

    np.testing.assert_array_equal(
        rows.dense(np.array([1.0, 2.0, 3.0]), (3, 4)), [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]]
    )


def test_axes_may_be_stored_in_another_order():
    """Columns outside, rows inside."""
    columns = sparsity([2, (3, [0, 1, 3], [2, 0, 1])], (1, 0))

    np.testing.assert_array_equal(columns.dense(np.array([5, 6, 7]), (3, 2)), [[0, 6], [0, 7], [5, 0]])


def test_blocks_divide_an_axis():
    """Two rows, of each one block of two columns: the block axis is the last level."""
    blocks = sparsity([2, (2, [0, 1, 2], [1, 0]), 2], (0, 1, 2), blocks=(1,))

    np.testing.assert_array_equal(blocks.dense(np.array([1, 2, 3, 4]), (2, 4)), [[0, 0, 1, 2], [3, 4, 0, 0]])


@pytest.mark.parametrize(
    ("levels", "shape", "message"),
    [
        ([2, (2, [0, 1, 2], [0, 5])], (2, 2), "has index 5 on axis 1"),
        ([2, (2, [0, 1], [0, 1])], (2, 2), "too few segments"),
        ([2, (2, [0, 1, 9], [0, 1])], (2, 2), "do not fit its shape"),
        ([2, (2, [0, 2, 1], [0, 1])], (2, 2), "do not fit its shape"),
        ([2, (2, [0, 1, 3], [0, 1])], (2, 2), "too few indices"),
        ([2, (2, [0, 1, 1], [0])], (2, 2), "2 values are stored, the indices name 1"),
        ([2, (2, [0, 1, 2], [0, 1])], (20_000, 20_000), "2 stored values cannot make"),
        ([2_000_000_000, (2, [0, 1, 2], [0, 1])], (2, 2), "do not fit its shape"),
    ],
)
def test_damaged_indices_are_refused(levels, shape, message):
    """Before an array of the shape is made, where it would be far larger than the file."""
    with pytest.raises(CheckpointError, match=message):
        sparsity(levels, (0, 1)).dense(np.array([1.0, 2.0]), shape)


@pytest.mark.parametrize(("order", "blocks"), [((0,), ()), ((0, 0), ()), ((0, 1), (5,)), ((0, 2), ())])
def test_axes_that_are_not_those_of_the_tensor_are_refused(order, blocks):
    """When the file is opened."""
    with pytest.raises(CheckpointError, match="a sparse tensor of 2 axes has"):
        sparsity([2, 2], order, blocks)


def test_a_dense_tensor_says_nothing():
    """Most have no such table."""
    assert sparsity_of(None, 2) is None
