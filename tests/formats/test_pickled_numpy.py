"""Arrays inside pickles: every protocol, dtype and layout that NumPy writes."""

import pickle

import numpy as np
import pytest

from regraft.errors import CheckpointError
from regraft.formats.pickled_arrays import arrays_of_pickled_file
from regraft.formats.pickled_numpy import PickledArray, PickledDtype

DTYPES = ["<f4", ">f8", "<f2", "|i1", "|b1", "<c8", "<u8"]


def read_back(folder, value, protocol):
    (folder / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    return {name: read() for name, (_, read) in arrays_of_pickled_file(folder / "a.pkl", 0).arrays.items()}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_and_large_arrays_come_back(tmp_path, protocol, dtype):
    """Large ones are read where they lie; both orders of axes and bytes."""
    large = (np.arange(2000).reshape(40, 50) % 7).astype(dtype)
    arrays = {"small": large[:1, :3].copy(), "large": large, "turned": np.asfortranarray(large), "scalar": large[1, 1]}

    got = read_back(tmp_path, arrays, protocol)

    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], np.asarray(array, np.dtype(dtype).newbyteorder("=")), strict=True)


def test_a_shape_that_does_not_fit_the_bytes_is_refused(tmp_path):
    """When it is told, not when it is read."""
    array = PickledArray((1 << 40,), PickledDtype("f4"), False, b"abcd")

    with pytest.raises(CheckpointError, match=r"w is float32 of shape \(1099511627776,\), .* but 4 are stored"):
        array.checked_type(path=tmp_path, name="w")


def test_an_array_without_a_state_is_refused(tmp_path):
    """NumPy reconstructs first and tells the shape later."""
    with pytest.raises(CheckpointError, match="does not record the type of the array w"):
        PickledArray().checked_type(path=tmp_path, name="w")


def test_structured_arrays_alone_are_refused(tmp_path):
    """They are no plain numbers."""
    with pytest.raises(CheckpointError, match="holds no NumPy arrays"):
        read_back(tmp_path, np.zeros(2, [("a", "f4"), ("b", "f4")]), 2)
