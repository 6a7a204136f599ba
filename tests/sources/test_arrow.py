"""Arrow tables as tensors."""

import numpy as np
import pyarrow as pa
import pytest

from regraft.errors import DataError
from regraft.examples import as_examples
from regraft.sources.arrow import tensor_of_column

ROWS = np.arange(12, dtype=np.float32)


def test_a_table_is_taken_as_it_is():
    """Lists of one size are rows; texts as labels are classes."""
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(ROWS), 3), "label": ["b", "a", "b", "a"]})
    examples = as_examples(table)
    assert examples.inputs.tolist() == ROWS.reshape(4, 3).tolist()
    assert examples.labels.tolist() == [1, 0, 1, 0]
    assert examples.classes == ("a", "b")


def test_several_columns_go_by_name():
    """As arguments of the model; a dictionary column is its values."""
    table = pa.table({"a": [1, 2], "b": [[1.0, 2.0], [3.0, 4.0]], "target": pa.array(["u", "v"]).dictionary_encode()})
    examples = as_examples(table)
    assert examples.inputs["a"].tolist() == [1, 2]
    assert examples.inputs["b"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert examples.labels.tolist() == [0, 1]


def test_memory_is_shared():
    """A column in one piece is not copied; a slice begins at its own row."""
    array = pa.array(ROWS)
    tensor = tensor_of_column(array)
    assert tensor.data_ptr() == array.buffers()[1].address
    assert tensor_of_column(array.slice(4, 2)).tolist() == [4.0, 5.0]
    lists = pa.FixedSizeListArray.from_arrays(array, 3).slice(2, 1)
    assert tensor_of_column(lists).tolist() == [[6.0, 7.0, 8.0]]


@pytest.mark.parametrize(
    "array",
    [
        pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS.reshape(2, 2, 3)),
        pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(ROWS), 3), 2),
        pa.chunked_array([pa.array(ROWS[:6].reshape(1, 2, 3).tolist()), pa.array(ROWS[6:].reshape(1, 2, 3).tolist())]),
    ],
)
def test_nested_lists_have_their_shape(array):
    """Also Arrow's own type of tensors, and columns in several pieces."""
    assert tensor_of_column(array).tolist() == ROWS.reshape(2, 2, 3).tolist()


def test_yes_and_no_are_numbers():
    """Arrow keeps them as bits."""
    assert tensor_of_column(pa.array([True, False, True])).tolist() == [True, False, True]


@pytest.mark.parametrize("values", [["a", "b"], [[1.0], [1.0, 2.0]], [1.0, None]])
def test_a_column_that_is_no_tensor_is_named_with_its_type(values):
    """Texts, lists of different sizes, empty cells."""
    with pytest.raises(DataError, match="The column 'x' of the Arrow table holds"):
        as_examples(pa.table({"x": values, "label": [0, 1]}))


def test_a_row_without_a_label_is_named():
    """With the way out."""
    with pytest.raises(DataError, match=r"Row 1 of the Arrow table has no label. Leave such rows out: table.filter"):
        as_examples(pa.table({"x": [1.0, 2.0], "label": [0, None]}))
