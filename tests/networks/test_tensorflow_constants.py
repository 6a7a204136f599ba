"""Constants of a TensorFlow graph are computed as it is read, as NumPy computes them."""

import numpy as np
import pytest

from regraft.formats.tensorflow_program import ProgramOperation
from regraft.networks.tensorflow_constants import folded, slice_index

A, B = np.array([2, 3, 4], np.int32), np.array([1, 1, 2], np.int32)
CASES = [
    ("Add", [A, B], {}, A + B), ("Mul", [A, B], {}, A * B), ("FloorDiv", [A, B], {}, A // B), ("Cast", [A],
        {"DstT": "float32"}, A),
    ("Pack", [A[0], A[1]], {"axis": 0}, [2, 3]), ("ConcatV2", [A, B, np.array(0)], {}, [2, 3, 4, 1, 1, 2]),
    ("StridedSlice", [A, A[:1] * 0, B[:1], B[:1]], {"shrink_axis_mask": 1}, 2), ("Prod", [A, np.array(0)], {}, 24),
    ("Range", [np.array(0), np.array(3), np.array(1)], {}, [0, 1, 2]), ("ExpandDims", [A, np.array(0)], {}, [[2, 3,
        4]]),
    ("Squeeze", [A[None]], {"squeeze_dims": [0]}, A), ("GatherV2", [A, np.array([2, 0]), np.array(0)], {}, [4, 2]),
    ("Fill", [np.array([2]), np.array(7)], {}, [7, 7]), ("Shape", [np.zeros((2, 5))], {}, [2, 5]),
    ("Slice", [A, np.array([1]), np.array([-1])], {}, [3, 4]), ("Reshape", [A, np.array([3, 1])], {}, [[2], [3], [4]]),
    ("ReverseV2", [A, np.array([0])], {}, [4, 3, 2]), ("RealDiv", [A, B], {}, A // B), ("SelectV2", [A > 2, A, B],
        {}, [1, 3, 4]),
]  # fmt: skip


@pytest.mark.parametrize(("op", "values", "settings", "wanted"), CASES)
def test_an_operation_on_constants(op, values, settings, wanted):
    """With the settings of the operation."""
    assert np.array_equal(folded(ProgramOperation(op, "y", (), settings), values), wanted)


def test_what_is_not_known_or_too_large_is_left_to_the_network():
    """And what does not fit."""
    assert folded(ProgramOperation("Conv2D", "y", (), {}), [A, B]) is None
    assert folded(ProgramOperation("Fill", "y", (), {}), [np.array([100, 100]), np.array(1)]) is None
    assert folded(ProgramOperation("Add", "y", (), {}), [A, A[:2]]) is None


def test_the_masks_of_a_strided_slice():
    """A bit leaves a bound out, adds an axis, takes one place, or stands for all axes between."""
    settings = {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2, "new_axis_mask": 4, "ellipsis_mask": 8}

    assert slice_index(settings, [[0, 3, 0, 0], [5, 0, 0, 0], [2, 1, 1, 1]]) == (slice(None, None, 2), 3, None, ...)
